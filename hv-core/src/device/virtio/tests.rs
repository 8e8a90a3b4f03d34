//! Drivers that do anything.

use super::block::Disk;
use super::driver::{Driver, RAM_BYTES, WRITE};
use super::switch::{Port, Switch};
use super::*;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use proptest::prelude::*;

/// What a hostile driver does next.
#[derive(Clone, Debug)]
enum Act {
    Register(u64, u32),
    Write(u64, usize, u64),
    Read(u64, usize),
    Memory(u64, u8),
    Chain(usize, Vec<(u64, u32, u16)>),
    Serve,
}

fn act() -> impl Strategy<Value = Act> {
    let registers = prop::sample::select(&[0x30_u64, 0x38, 0x44, 0x50, 0x64, 0x70, 0x80, 0x90, 0xA0][..]);
    let at = prop_oneof![0x8_0000..0x9_0000_u64, 0..RAM_BYTES + 4096, any::<u64>()];
    let len = prop_oneof![0..64_u32, Just(512), Just(4096), 0..300_000_u32, any::<u32>()];
    let buffer = (at, len, prop::sample::select(&[0_u16, 0, 2, 2, 4][..]));
    prop_oneof![
        2 => (registers, prop_oneof![0..16_u32, any::<u32>()]).prop_map(|(r, v)| Act::Register(r, v)),
        1 => (0..0x210_u64, 0..10_usize, any::<u64>()).prop_map(|(o, l, v)| Act::Write(o, l, v)),
        1 => (any::<u64>(), any::<usize>()).prop_map(|(o, l)| Act::Read(o & 0x1FF, l & 15)),
        2 => (0x1_0000..0x6_0000_u64, any::<u8>()).prop_map(|(a, v)| Act::Memory(a, v)),
        6 => (0..5_usize, prop::collection::vec(buffer, 1..6)).prop_map(|(q, c)| Act::Chain(q, c)),
        4 => Just(Act::Serve),
    ]
}

fn devices() -> Vec<Device> {
    let switch: &Switch = Box::leak(Box::new(Switch::new(2)));
    for _ in 0..70 {
        let _ = switch.send(Port(1), &[0xFF; 60]);
    }
    static IMAGE: [u8; 64 << 10] = [0x5A; 64 << 10];
    alloc::vec![
        Device::Block(Block::new(Disk::read_only(&IMAGE).unwrap(), "fixed")),
        Device::Block(Block::new(Disk::copy_on_write(&IMAGE, 3).unwrap(), "changes")),
        Device::Console(Console::default()),
        Device::Net(Net::new([2, 0, 0, 0, 0, 1], switch, Port(0))),
        Device::Entropy(Entropy),
        Device::Balloon(Balloon::default()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a driver does, every step ends, and after a reset the device is as good as new.
    #[test]
    fn a_hostile_driver_harms_only_itself(acts in prop::collection::vec(act(), 1..80)) {
        for device in devices() {
            let mut driver = Driver::ready(device);
            if let Device::Console(console) = driver.transport.device_mut() {
                while console.receive(b'?') {}
            }
            for act in &acts {
                match act {
                    Act::Register(register, value) => { let _ = driver.set(*register, *value); }
                    Act::Write(offset, len, value) => { let _ = driver.transport.write(*offset, *len, *value); }
                    Act::Read(offset, len) => { driver.transport.read(*offset, *len); }
                    Act::Memory(at, value) => driver.ram.put(*at, &[*value]),
                    Act::Chain(n, buffers) => {
                        let n = n % driver.queues.len();
                        driver.queues[n].offer(&driver.ram, buffers);
                        let _ = driver.set(0x50, u32::try_from(n).unwrap());
                    }
                    Act::Serve => { let _ = driver.step(); }
                }
                driver.is_broken();
            }
            driver.put(0x70, 0);
            prop_assert!(!driver.transport.line());
            driver.set_up(u64::MAX);
            driver.serve();
            prop_assert!(!driver.is_broken());
            for n in 0..driver.queues.len() {
                prop_assert_eq!(driver.used(n), []);
            }
        }
    }

    /// Whatever the buffers are, nothing but them and the device's rings is written, and every chain comes back once.
    #[test]
    fn a_device_writes_only_where_it_was_let(
        chains in prop::collection::vec((
            0..5_usize,
            prop::sample::select(&[0_u32, 0, 1, 1, 4, 8, 99][..]),
            0..140_u64,
            prop::collection::vec((
                0x8_0000..0xE_0000_u64,
                prop_oneof![Just(512_u32), Just(1024), 0..600_u32, 0..90_000_u32],
            ), 0..5),
            prop::sample::select(&[0_u16, 2][..]),
        ), 1..24),
        features in any::<u64>(),
    ) {
        for device in devices() {
            let mut driver = Driver::new(device);
            driver.set_up(features | 1 << 32);
            if let Device::Console(console) = driver.transport.device_mut() {
                while console.receive(b'?') {}
            }
            let mut allowed = Vec::new();
            let mut offered = [0; 5];
            let _ = driver.ram.take_written();
            for (place, (n, kind, sector, data, flags)) in (0..).zip(&chains) {
                let n = n % driver.queues.len();
                let header = 0x6_0000 + 0x20 * place;
                driver.ram.put(header, &kind.to_le_bytes());
                driver.ram.put(header + 8, &sector.to_le_bytes());
                let mut chain = alloc::vec![(header, 16, 0)];
                chain.extend(data.iter().map(|(at, len)| (*at, *len, *flags)));
                chain.push((header + 16, 1, WRITE));
                // What only comes in has no header; a card's frame has one.
                if !matches!(driver.transport.device(), Device::Block(_)) && *flags == WRITE && n != 1 {
                    chain.remove(0);
                }
                let writable = chain.iter().filter(|(_, _, flags)| *flags == WRITE);
                allowed.extend(writable.map(|(at, len, _)| *at..*at + u64::from(*len)));
                driver.offer(n, &chain);
                offered[n] += 1;
                // A buffer may lie in another one's: what is read there is anything.
                if place % 3 == 0 { driver.serve(); }
            }
            driver.serve();
            prop_assert!(!driver.is_broken());
            for rings in &driver.queues {
                let at = rings.setup.device;
                allowed.push(at..at + 6 + 8 * 256);
            }
            for written in driver.ram.take_written() {
                let inside = allowed.iter().any(|place| {
                    place.start <= written.start && written.end <= place.end
                });
                prop_assert!(inside, "{:x?}", written);
            }
            for (n, offered) in offered.into_iter().enumerate().take(driver.queues.len()) {
                let used = driver.used(n);
                prop_assert!(used.len() <= offered);
                let mut heads: Vec<u16> = used.iter().map(|(head, _)| *head).collect();
                heads.sort_unstable();
                heads.dedup();
                prop_assert_eq!(heads.len(), used.len());
                if matches!(driver.transport.device(), Device::Block(_) | Device::Entropy(_) | Device::Balloon(_)) {
                    prop_assert_eq!(used.len(), offered);
                }
            }
        }
    }
}

/// What a driver offers a device of each kind, and what becomes of it: what came back, what was said, and what was written.
fn outcome(kind: usize, lent: Option<Range<u64>>) -> impl PartialEq + core::fmt::Debug {
    const HEADER: u64 = 0x8_0000;
    const DATA: u64 = 0x9_0000;
    const LAST: u64 = 0xA_0000;
    let switch: &Switch = Box::leak(Box::new(Switch::new(2)));
    let _ = switch.send(Port(1), &[0xFF; 60]);
    static IMAGE: [u8; 64 << 10] = [0x5A; 64 << 10];
    let disk = || Block::new(Disk::copy_on_write(&IMAGE, 3).unwrap(), "changes");
    let (device, queue, buffers) = match kind {
        0 => (Device::Block(disk()), 0, [(HEADER, 16, 0), (DATA, 8192, WRITE), (LAST, 1, WRITE)]),
        1 => (Device::Block(disk()), 0, [(HEADER, 16, 0), (DATA, 8192, 0), (LAST, 1, WRITE)]),
        2 => (Device::Console(Console::default()), 1, [(HEADER, 16, 0), (DATA, 8192, 0), (LAST, 1, 0)]),
        3 => (
            Device::Console(Console::default()),
            0,
            [(HEADER, 7, WRITE), (DATA, 200, WRITE), (LAST, 99, WRITE)],
        ),
        4 => (
            Device::Net(Net::new([2, 0, 0, 0, 0, 1], switch, Port(0))),
            0,
            [(HEADER, 12, WRITE), (DATA, 30, WRITE), (LAST, 999, WRITE)],
        ),
        5 => (
            Device::Net(Net::new([2, 0, 0, 0, 0, 1], switch, Port(0))),
            1,
            [(HEADER, 12, 0), (DATA, 14, 0), (LAST, 99, 0)],
        ),
        6 => (Device::Entropy(Entropy), 0, [(HEADER, 8, WRITE), (DATA, 8, WRITE), (LAST, 8, WRITE)]),
        _ => (
            Device::Balloon(Balloon::default()),
            2,
            [(2 << 20, 2 << 20, WRITE), (8 << 20, 2 << 20, WRITE), (LAST, 1, WRITE)],
        ),
    };
    let mut driver = Driver::ready(device);
    if let Device::Console(console) = driver.transport.device_mut() {
        while console.receive(b'?') {}
    }
    driver.serve();
    driver.ram.put(HEADER, &u32::from(kind == 1).to_le_bytes());
    driver.ram.put(DATA, &[0xFF; 8192]);
    driver.offer(queue, &buffers);
    driver.seen.lends = true;
    driver.ram.lend(lent.unwrap_or_default());
    driver.serve();
    assert!(!driver.is_broken());
    let mut frame = [0; super::switch::MAX_FRAME_BYTES];
    let sent = core::iter::from_fn(|| switch.receive(Port(1), &mut frame)).collect::<Vec<_>>();
    let kept = [0x8_0000, DATA, LAST].map(|at| driver.ram.get(at, 8192));
    let random = driver.seen.random;
    // Numbers that were drawn for a buffer that was not there are drawn anew.
    let kept = if matches!(driver.transport.device(), Device::Entropy(_)) { None } else { Some(kept) };
    (
        driver.used(queue),
        driver.transport.line(),
        driver.seen.said.clone(),
        driver.seen.freed.clone(),
        sent,
        kept,
        random > 0,
    )
}

/// A driver may offer memory that nobody has touched since the balloon has reported it: it is waited for, and nothing is done
/// twice or left out.
#[test]
fn a_device_goes_on_where_it_was_when_lent_memory_is_back() {
    for kind in 0..8 {
        let whole = outcome(kind, None);
        for start in (0..RAM_BYTES).step_by(0x1000) {
            assert!(outcome(kind, Some(start..start + 0x1000)) == whole, "kind {kind} at {start:#x}");
        }
        for start in [0x8_0000, 0x9_0000, 0xA_0000] {
            for offset in [1_u64, 8, 700] {
                let lent = start + offset..start + offset + 1;
                assert!(outcome(kind, Some(lent)) == whole, "kind {kind} at {start:#x} + {offset}");
            }
        }
    }
}

#[test]
fn memory_that_was_never_there_breaks_a_device() {
    let mut driver = Driver::ready(Device::Entropy(Entropy));
    driver.seen.lends = true;
    driver.offer(0, &[(RAM_BYTES - 4, 8, WRITE)]);
    driver.serve();
    assert!(driver.is_broken());
}

#[test]
fn following_buffers_without_bytes_is_charged_too() {
    let mut driver = Driver::ready(Device::Entropy(Entropy));
    let empty = [(0x8_0000, 0, WRITE); 255];
    for _ in 0..4 {
        // All are the same chain, from the first descriptor on.
        driver.queues[0].offer(&driver.ram, &empty);
        driver.queues[0].rewind();
    }
    let _ = driver.set(0x50, 0);
    assert!(driver.serve() >= 4, "a step follows one such chain");
    assert_eq!(driver.used(0), [(0, 0); 4]);
}

#[test]
fn a_step_sends_one_frame_to_everybody() {
    let switch: &Switch = Box::leak(Box::new(Switch::new(64)));
    let mut driver = Driver::ready(Device::Net(Net::new([2, 0, 0, 0, 0, 1], switch, Port(0))));
    driver.serve();
    driver.ram.put(0x8_0000, &[0xFF; 1600]);
    for _ in 0..8 {
        driver.offer(1, &[(0x8_0000, 12 + 1514, 0)]);
    }
    assert!(driver.serve() >= 8);
    assert_eq!(driver.used(1).len(), 8);
}
