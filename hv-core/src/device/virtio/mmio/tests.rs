//! What drivers do to the registers.

use super::*;
use crate::device::virtio::console::Console;
use crate::device::virtio::driver::{Driver, WRITE};

const DATA: u64 = 0x8_0000;

fn console() -> Driver {
    Driver::new(Device::Console(Console::default()))
}

#[test]
fn a_driver_finds_the_device() {
    let driver = console();
    assert_eq!([0, 4, 8, 0xC].map(|at| driver.get(at)), [0x7472_6976, 2, 3, VENDOR]);
    assert_eq!(driver.transport.read(0xB0, 4), 0xFFFF_FFFF, "no shared memory");
    assert!(!driver.transport.line());
}

#[test]
fn registers_are_four_bytes_wide_and_the_rest_reads_zero() {
    let mut driver = console();
    for (offset, len) in [(0, 1), (0, 2), (0, 8), (1, 4), (2, 4), (0x18, 4), (0xFF, 4), (u64::MAX, 4)] {
        assert_eq!(driver.transport.read(offset, len), 0, "{offset:#x}");
        assert_eq!(driver.transport.write(offset, len, u64::MAX), Effect::None, "{offset:#x}");
    }
    assert_eq!(driver.transport.write(0x70, 1, 1), Effect::None);
    assert_eq!(driver.get(0x70), 0);
}

#[test]
fn the_configuration_space_is_read_in_any_width() {
    let driver = console();
    assert_eq!(driver.transport.read(0x104, 4), 1);
    assert_eq!(driver.transport.read(0x104, 2), 1);
    assert_eq!(driver.transport.read(0x104, 1), 1);
    assert_eq!(driver.transport.read(0x100, 8), 1 << 32);
    for (offset, len) in [(0x104, 3), (0x104, 0), (0x104, 16), (0x140, 4), (0x1FF, 8), (u64::MAX, 8)] {
        assert_eq!(driver.transport.read(offset, len), 0, "{offset:#x} {len}");
    }
}

#[test]
fn features_are_shown_by_halves() {
    let mut driver = console();
    for (half, expected) in [(0, 0x3000_0000), (1, 1), (2, 0), (u32::MAX, 0)] {
        driver.put(0x14, half);
        assert_eq!(driver.get(0x10), expected, "half={half}");
    }
}

#[test]
fn features_are_agreed_on_only_with_version_1_and_out_of_the_offered() {
    for (halves, accepted) in [
        ([(0, 0x3000_0000), (1, 1)], true),
        ([(0, 0), (1, 1)], true),
        ([(0, 0x3000_0000), (1, 0)], false),
        ([(0, 1), (1, 1)], false),
        ([(1, 3), (0, 0)], false),
        ([(1, 1), (2, 1)], false),
        ([(1, 1), (2, 0)], true),
    ] {
        let mut driver = console();
        driver.put(0x70, 3);
        for (half, bits) in halves {
            driver.put(0x24, half);
            driver.put(0x20, bits);
        }
        driver.put(0x70, 11);
        assert_eq!(driver.get(0x70), if accepted { 11 } else { 3 }, "{halves:x?}");
        let effect = driver.set(0x70, 15);
        assert_eq!(
            (effect, driver.get(0x70)),
            if accepted { (Effect::Serve, 15) } else { (Effect::None, 3) }
        );
    }
}

#[test]
fn agreed_features_and_status_bits_stay() {
    let mut driver = console();
    driver.set_up(u64::MAX);
    driver.put(0x24, 1);
    driver.put(0x20, 0);
    driver.put(0x70, 1 | 64);
    assert_eq!(driver.get(0x70), 15, "the driver can neither clear bits nor set that of the device");
}

#[test]
fn a_queue_in_use_keeps_its_place_until_it_is_stopped() {
    let mut driver = console();
    driver.set_up(u64::MAX);
    driver.put(0x30, 1);
    driver.put(0x38, 3);
    driver.put(0x44, 0);
    assert_eq!(driver.get(0x44), 0);
    driver.put(0x44, 1);
    assert_eq!(driver.get(0x44), 1, "the size is the old one");
    driver.put(0x44, 0);
    driver.put(0x38, 3);
    driver.put(0x44, 1);
    assert_eq!(driver.get(0x44), 0, "three descriptors are no queue");
}

#[test]
fn there_are_no_other_queues() {
    let mut driver = console();
    driver.set_up(u64::MAX);
    for n in [2, 31, 32, u32::MAX] {
        driver.put(0x30, n);
        driver.put(0x38, 8);
        driver.put(0x44, 1);
        driver.put(0x44, 0);
        assert_eq!((driver.get(0x34), driver.get(0x44)), (0, 0), "queue={n}");
    }
}

#[test]
fn a_queue_does_not_start_before_features_are_agreed_on() {
    let mut driver = console();
    driver.put(0x38, 8);
    driver.put(0x44, 1);
    assert_eq!(driver.get(0x44), 0);
}

#[test]
fn nothing_happens_before_the_driver_is_ready() {
    let mut driver = console();
    driver.set_up(u64::MAX);
    driver.put(0x70, 0);
    driver.queues[1].offer(&driver.ram, &[(DATA, 4, 0)]);
    driver.put(0x50, 1);
    driver.serve();
    assert!(driver.used(1).is_empty() && driver.seen.said.is_empty());
}

#[test]
fn a_used_buffer_raises_the_line_until_it_is_acknowledged() {
    let mut driver = Driver::ready(Device::Console(Console::default()));
    driver.offer(1, &[(DATA, 4, 0)]);
    driver.serve();
    assert!(driver.transport.line());
    assert_eq!(driver.get(0x60), 1);
    driver.put(0x64, 2);
    assert!(driver.transport.line(), "the other reason");
    driver.put(0x64, 1);
    assert!(!driver.transport.line());
}

#[test]
fn a_changed_configuration_is_told_to_a_driver_that_is_ready() {
    let mut driver = console();
    driver.transport.config_changed();
    assert!(!driver.transport.line());
    let before = driver.get(0xFC);
    driver.set_up(u64::MAX);
    driver.transport.config_changed();
    assert_eq!((driver.get(0x60), driver.get(0xFC)), (2, before + 1));
}

#[test]
fn a_malformed_queue_stops_the_device_until_a_reset() {
    let mut driver = Driver::ready(Device::Console(Console::default()));
    driver.offer(1, &[(DATA, 4, WRITE), (DATA, 4, 0)]);
    driver.serve();
    assert!(driver.is_broken() && driver.transport.line());
    assert_eq!((driver.get(0x70), driver.get(0x60)), (15 | 64, 2));
    driver.put(0x64, 3);
    driver.queues[1].offer(&driver.ram, &[(DATA, 4, 0)]);
    driver.put(0x50, 1);
    driver.serve();
    assert!(driver.used(1).is_empty() && !driver.transport.line());

    driver.put(0x70, 0);
    assert_eq!(driver.get(0x70), 0);
    driver.set_up(u64::MAX);
    driver.ram.put(DATA, b"back");
    driver.offer(1, &[(DATA, 4, 0)]);
    driver.serve();
    assert_eq!(driver.seen.said, b"back");
}
