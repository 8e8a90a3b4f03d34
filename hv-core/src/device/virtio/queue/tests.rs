//! What drivers do to a queue.

use super::*;
use crate::device::virtio::driver::{INDIRECT, NEXT, RAM_BYTES, Ram, Rings as Driver, SIZE, WRITE};
use alloc::vec::Vec;
use proptest::prelude::*;

const DATA: u64 = 0x8_0000;
const TABLE: u64 = 0x7_0000;

fn start(features: RingFeatures) -> (Ram, Driver, Queue) {
    let driver = Driver::new(0);
    (Ram::new(), driver, driver.start(features))
}

/// What the queue says to one chain whose first descriptors are these.
fn verdict(descriptors: &[(u64, u32, u16, u16)], features: RingFeatures) -> Malformed {
    let (ram, mut driver, mut queue) = start(features);
    for (n, descriptor) in descriptors.iter().enumerate() {
        ram.put_descriptor(driver.setup.descriptors, u16::try_from(n).unwrap(), *descriptor);
    }
    driver.publish(&ram, 0);
    queue.pop(&ram).unwrap_err()
}

#[test]
fn a_queue_starts_only_with_a_legal_size_and_aligned_rings() {
    let legal = Driver::new(0).setup;
    let cases = [
        (legal, true),
        (Setup { size: 1, ..legal }, true),
        (Setup { size: 0, ..legal }, false),
        (Setup { size: 3, ..legal }, false),
        (Setup { size: 512, ..legal }, false),
        (Setup { size: 1 << 16, ..legal }, false),
        (Setup { descriptors: legal.descriptors + 8, ..legal }, false),
        (Setup { driver: legal.driver + 1, ..legal }, false),
        (Setup { device: legal.device + 2, ..legal }, false),
        (Setup { device: 1 << 52, ..legal }, false),
    ];
    for (setup, starts) in cases {
        let mut queue = Queue::default();
        queue.start(&setup, RingFeatures::empty());
        assert_eq!(queue.is_ready(), starts, "{setup:x?}");
    }
}

#[test]
fn a_chain_comes_as_the_driver_made_it_and_goes_back_with_its_length() {
    let (ram, mut driver, mut queue) = start(RingFeatures::empty());
    assert!(queue.pop(&ram).unwrap().is_none());
    driver.offer(&ram, &[(DATA, 1, 0)]);
    let head =
        driver.offer(&ram, &[(DATA, 3, 0), (DATA + 8, 0, 0), (DATA + 16, 5, 0), (DATA + 32, 4, WRITE)]);
    let first = queue.pop(&ram).unwrap().unwrap();
    assert_eq!(queue.push(&ram, first, 0), Ok(Notify::Wanted));
    let chain = queue.pop(&ram).unwrap().unwrap();
    assert_eq!((chain.head(), chain.readable_bytes(), chain.writable_bytes()), (head, 8, 4));
    ram.put(DATA, b"abc");
    ram.put(DATA + 16, b"defgh");
    let mut bytes = [0; 5];
    chain.read(&ram, 2, &mut bytes).unwrap();
    assert_eq!(&bytes, b"cdefg");
    assert_eq!(chain.read(&ram, 4, &mut bytes), Err(Malformed::TooShort(head)));
    chain.write(&ram, 1, b"xyz").unwrap();
    assert_eq!(ram.get(DATA + 32, 5), b"\0xyz\0");
    assert_eq!(chain.write(&ram, 1, b"wxyz"), Err(Malformed::TooShort(head)));
    assert_eq!(queue.push(&ram, chain, 4), Ok(Notify::Wanted));
    assert_eq!(driver.used(&ram), [(0, 0), (head, 4)]);
}

#[test]
fn the_indices_wrap() {
    let (ram, mut driver, mut queue) = start(RingFeatures::EVENT_IDX);
    for n in 0..70_000_u32 {
        let head = driver.offer(&ram, &[(DATA, 4, WRITE)]);
        let chain = queue.pop(&ram).unwrap().unwrap();
        driver.set_used_event(&ram, u16::try_from(n & 0xFFFF).unwrap());
        assert_eq!(queue.push(&ram, chain, n), Ok(Notify::Wanted), "n={n}");
        assert_eq!(driver.used(&ram), [(head, n)]);
    }
}

#[test]
fn an_index_past_the_queue_is_malformed() {
    let (ram, driver, mut queue) = start(RingFeatures::empty());
    driver.set_available(&ram, SIZE);
    assert!(queue.pop(&ram).unwrap().is_some(), "a full queue is legal");
    for ahead in [SIZE + 2, 0] {
        driver.set_available(&ram, ahead);
        assert_eq!(queue.pop(&ram).unwrap_err(), Malformed::IndexAhead(ahead.wrapping_sub(1)));
    }
}

#[test]
fn a_chain_that_no_driver_may_make_is_told_by_name() {
    let table = |len| (TABLE, len, INDIRECT, 0);
    let with = RingFeatures::INDIRECT_DESC;
    let cases = [
        (alloc::vec![(DATA, 1, NEXT, 256)], Malformed::NoSuchDescriptor(256)),
        (alloc::vec![(DATA, 1, NEXT, 0)], Malformed::TooManySegments(0)),
        (alloc::vec![(DATA, 1, NEXT, 1), (DATA, 1, NEXT, 1)], Malformed::TooManySegments(0)),
        (alloc::vec![(DATA, 1, NEXT | WRITE, 1), (DATA, 1, 0, 0)], Malformed::ReadableAfterWritable(1)),
        (alloc::vec![(DATA, u32::MAX, NEXT, 1), (DATA, 1, 0, 0)], Malformed::TooManyBytes(0)),
        (alloc::vec![(1 << 52, 1, 0, 0)], Malformed::OutsideMemory(1 << 52)),
        (alloc::vec![table(0)], Malformed::IndirectBytes(0)),
        (alloc::vec![table(24)], Malformed::IndirectBytes(24)),
        (alloc::vec![(TABLE, 32, INDIRECT | NEXT, 1)], Malformed::IndirectWithNext(0)),
        (alloc::vec![(RAM_BYTES, 16, INDIRECT, 0)], Malformed::OutsideMemory(RAM_BYTES)),
        (alloc::vec![(u64::MAX, 16, INDIRECT, 0)], Malformed::OutsideMemory(u64::MAX)),
    ];
    for (descriptors, expected) in cases {
        assert_eq!(verdict(&descriptors, with), expected, "{descriptors:x?}");
    }
    assert_eq!(verdict(&[table(16)], RingFeatures::empty()), Malformed::IndirectNotNegotiated(0));
}

#[test]
fn an_indirect_table_ends_a_chain() {
    let (ram, mut driver, mut queue) = start(RingFeatures::INDIRECT_DESC);
    ram.put_descriptor(TABLE, 0, (DATA + 16, 2, NEXT, 2));
    ram.put_descriptor(TABLE, 2, (DATA + 32, 3, WRITE, 0));
    // The flag for the table itself does not matter (§2.7.5.3.2).
    driver.offer(&ram, &[(DATA, 1, 0), (TABLE, 48, INDIRECT | WRITE)]);
    let chain = queue.pop(&ram).unwrap().unwrap();
    let at = |segments: &[Segment]| segments.iter().map(|s| (s.at.raw(), s.len_bytes)).collect::<Vec<_>>();
    assert_eq!(at(chain.readable()), [(DATA, 1), (DATA + 16, 2)]);
    assert_eq!(at(chain.writable()), [(DATA + 32, 3)]);
}

#[test]
fn an_indirect_table_has_no_other_in_it_and_no_way_out() {
    let with = RingFeatures::INDIRECT_DESC;
    for (entry, expected) in [
        ((DATA, 16, INDIRECT, 0), Malformed::IndirectNested(0)),
        ((DATA, 1, NEXT, 1), Malformed::NoSuchDescriptor(1)),
        ((DATA, 1, NEXT, 0), Malformed::TooManySegments(0)),
    ] {
        let (ram, mut driver, mut queue) = start(with);
        ram.put_descriptor(TABLE, 0, entry);
        driver.offer(&ram, &[(TABLE, 16, INDIRECT)]);
        assert_eq!(queue.pop(&ram).unwrap_err(), expected);
    }
}

#[test]
fn a_chain_may_have_as_many_buffers_as_a_queue() {
    let (ram, mut driver, mut queue) = start(RingFeatures::INDIRECT_DESC);
    let most = u16::try_from(MAX_SEGMENTS).unwrap();
    for n in 0..=most {
        ram.put_descriptor(TABLE, n, (DATA, 1, if n + 1 < most { NEXT } else { 0 }, n + 1));
    }
    driver.offer(&ram, &[(TABLE, 16 * 257, INDIRECT)]);
    let chain = queue.pop(&ram).unwrap().unwrap();
    assert_eq!(chain.readable_bytes(), 256);
    ram.put_descriptor(TABLE, most - 1, (DATA, 1, NEXT, most));
    driver.publish(&ram, 0);
    assert_eq!(queue.pop(&ram).unwrap_err(), Malformed::TooManySegments(0));
}

#[test]
fn flags_hold_interrupts_back_where_there_is_no_event_index() {
    let (ram, mut driver, mut queue) = start(RingFeatures::empty());
    for (flags, expected) in [(0, Notify::Wanted), (1, Notify::Unwanted), (2, Notify::Wanted)] {
        driver.offer(&ram, &[(DATA, 1, 0)]);
        driver.set_flags(&ram, flags);
        let chain = queue.pop(&ram).unwrap().unwrap();
        assert_eq!(queue.push(&ram, chain, 0), Ok(expected), "flags={flags}");
    }
}

#[test]
fn the_event_index_decides_over_interrupts_and_the_flags_do_not() {
    let (ram, mut driver, mut queue) = start(RingFeatures::EVENT_IDX);
    driver.set_flags(&ram, 1);
    driver.set_used_event(&ram, 2);
    for expected in [Notify::Unwanted, Notify::Unwanted, Notify::Wanted, Notify::Unwanted] {
        driver.offer(&ram, &[(DATA, 1, 0)]);
        let chain = queue.pop(&ram).unwrap().unwrap();
        assert_eq!(queue.push(&ram, chain, 0), Ok(expected));
    }
}

#[test]
fn arming_asks_for_the_next_chain_and_sees_the_one_that_is_there() {
    let (ram, mut driver, mut queue) = start(RingFeatures::EVENT_IDX);
    assert_eq!(queue.arm(&ram), Ok(false));
    assert_eq!(driver.available_event(&ram), 0);
    driver.offer(&ram, &[(DATA, 1, 0)]);
    assert_eq!(queue.arm(&ram), Ok(true));
    let chain = queue.pop(&ram).unwrap().unwrap();
    let _ = queue.push(&ram, chain, 0).unwrap();
    assert_eq!((queue.arm(&ram), driver.available_event(&ram)), (Ok(false), 1));
    let (ram, _, mut plain) = start(RingFeatures::empty());
    assert_eq!(plain.arm(&ram), Ok(false));
    assert!(ram.take_written().is_empty(), "without the feature there is no place to write to");
}

#[test]
fn rings_that_end_outside_of_memory_are_malformed() {
    let at = |at| Setup { size: 256, descriptors: at, driver: at, device: at };
    for setup in [at(RAM_BYTES - 2048), at(RAM_BYTES), at((1 << 52) - 16)] {
        let ram = Ram::new();
        let mut queue = Queue::default();
        queue.start(&setup, RingFeatures::EVENT_IDX);
        assert!(matches!(queue.arm(&ram), Err(Malformed::OutsideMemory(_))), "{setup:x?}");
    }
}

#[test]
fn a_queue_that_was_stopped_does_nothing_and_starts_anew() {
    let (ram, mut driver, mut queue) = start(RingFeatures::empty());
    driver.offer(&ram, &[(DATA, 1, 0)]);
    let chain = queue.pop(&ram).unwrap().unwrap();
    queue.stop();
    assert_eq!(queue.push(&ram, chain, 1), Ok(Notify::Unwanted));
    assert!(queue.pop(&ram).unwrap().is_none() && !queue.is_ready());
    assert!(ram.take_written().is_empty());
    queue.start(&driver.setup, RingFeatures::empty());
    assert!(queue.pop(&ram).unwrap().is_some());
}

proptest! {
    /// Every access ends, and nothing is written but the used ring and the buffers that are the device's.
    #[test]
    fn arbitrary_rings_harm_nobody(
        descriptors in prop::collection::vec(
            (prop_oneof![Just(DATA), Just(TABLE), 0..RAM_BYTES + 64, any::<u64>()],
             prop_oneof![0..64_u32, Just(64), any::<u32>()], any::<u16>(), 0..20_u16), 1..16),
        noise in prop::collection::vec(any::<u8>(), 0..512),
        heads in prop::collection::vec(0..20_u16, 1..8),
        features in any::<u64>(),
    ) {
        let features = RingFeatures::from_bits_truncate(features);
        let (ram, mut driver, mut queue) = start(features);
        ram.put(TABLE, &noise);
        for (n, descriptor) in descriptors.iter().enumerate() {
            ram.put_descriptor(driver.setup.descriptors, u16::try_from(n).unwrap(), *descriptor);
        }
        for head in heads {
            driver.publish(&ram, head);
            let Ok(Some(chain)) = queue.pop(&ram) else { break };
            let segments = chain.writable().to_vec();
            let len = chain.writable_bytes().min(100);
            let _ = chain.read(&ram, 0, &mut [0; 50]);
            let _ = chain.write(&ram, chain.writable_bytes() - len, &[7; 100]);
            for written in ram.take_written() {
                let inside = segments.iter().any(|s| {
                    s.at.raw() <= written.start && written.end <= s.at.raw() + u64::from(s.len_bytes)
                });
                prop_assert!(inside, "{:x?} in {:x?}", written, segments);
            }
            let _ = queue.push(&ram, chain, len);
            let _ = queue.arm(&ram);
            for written in ram.take_written() {
                let device = driver.setup.device;
                prop_assert!(device <= written.start && written.end <= device + 6 + 8 * 256);
            }
        }
    }
}
