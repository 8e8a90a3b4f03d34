//! What is said and heard.

use super::*;
use crate::device::virtio::driver::{Driver, WRITE};
use crate::device::virtio::{Device, ServeProgress};
use alloc::vec::Vec;

const DATA: u64 = 0x8_0000;

fn console() -> Driver {
    Driver::ready(Device::Console(Console::default()))
}

fn hear(driver: &mut Driver, text: &[u8]) -> usize {
    let Device::Console(console) = driver.transport.device_mut() else { panic!("not a console") };
    text.iter().take_while(|byte| console.receive(**byte)).count()
}

#[test]
fn what_the_guest_says_comes_out_in_order() {
    let mut driver = console();
    driver.ram.put(DATA, b"hello, world");
    let first = driver.offer(1, &[(DATA, 5, 0), (DATA + 5, 2, 0)]);
    let second = driver.offer(1, &[(DATA + 7, 5, 0)]);
    driver.serve();
    assert_eq!(driver.seen.said, b"hello, world");
    assert_eq!(driver.used(1), [(first, 0), (second, 0)]);
}

#[test]
fn a_long_speech_takes_several_steps_and_loses_nothing() {
    let mut driver = console();
    let text: Vec<u8> = (0..150_001_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    driver.ram.put(DATA, &text);
    driver.offer(1, &[(DATA, 100_000, 0), (DATA + 100_000, 50_001, 0)]);
    assert_eq!(driver.step(), ServeProgress::More);
    assert_eq!((driver.seen.said.len(), driver.used(1).len()), (PART_BYTES, 0));
    assert_eq!(driver.serve(), 585);
    assert_eq!(driver.used(1).len(), 1);
    assert!(driver.seen.said == text);
}

#[test]
fn a_speech_waits_where_nobody_can_hear_it_now() {
    let mut driver = console();
    driver.ram.put(DATA, &[b'.'; 300]);
    driver.offer(1, &[(DATA, 300, 0)]);
    driver.seen.deaf = true;
    for _ in 0..3 {
        assert_eq!(driver.step(), ServeProgress::More);
    }
    assert_eq!((driver.seen.said.len(), driver.used(1).len()), (0, 0));
    driver.seen.deaf = false;
    assert_eq!(driver.serve(), 2);
    assert_eq!((driver.seen.said.len(), driver.used(1).len()), (300, 1));
}

#[test]
fn short_words_are_one_step_as_long_as_they_are_few() {
    let mut driver = console();
    driver.ram.put(DATA, &[b'.'; 100]);
    for _ in 0..3 {
        driver.offer(1, &[(DATA, 100, 0)]);
    }
    assert_eq!(driver.step(), ServeProgress::More);
    assert_eq!((driver.seen.said.len(), driver.used(1).len()), (PART_BYTES, 2));
    assert_eq!(driver.serve(), 1);
    assert_eq!((driver.seen.said.len(), driver.used(1).len()), (300, 1));
}

#[test]
fn what_was_typed_waits_for_buffers_and_fills_them() {
    let mut driver = console();
    assert_eq!(hear(&mut driver, b"typed"), 5);
    driver.serve();
    let head = driver.offer(0, &[(DATA, 2, WRITE), (DATA + 16, 1, WRITE)]);
    driver.serve();
    assert_eq!(driver.used(0), [(head, 3)]);
    assert_eq!((driver.ram.get(DATA, 2), driver.ram.get(DATA + 16, 2)), (b"ty".to_vec(), b"p\0".to_vec()));
    driver.offer(0, &[(DATA, 64, WRITE)]);
    driver.serve();
    assert_eq!((driver.ram.get(DATA, 3), driver.used(0)[0].1), (b"ed\0".to_vec(), 2));
}

#[test]
fn buffers_wait_for_what_is_typed() {
    let mut driver = console();
    driver.offer(0, &[(DATA, 64, WRITE)]);
    driver.serve();
    assert!(driver.used(0).is_empty());
    assert_eq!(hear(&mut driver, b"x"), 1);
    driver.serve();
    assert_eq!((driver.ram.get(DATA, 1), driver.used(0)), (b"x".to_vec(), alloc::vec![(0, 1)]));
}

#[test]
fn more_than_the_buffer_holds_waits_outside() {
    let mut driver = console();
    assert_eq!(hear(&mut driver, &[b'.'; 300]), RECEIVED_BYTES);
    driver.offer(0, &[(DATA, 44, WRITE)]);
    driver.serve();
    assert_eq!(hear(&mut driver, &[b'.'; 300]), 44);
}

#[test]
fn a_queue_that_is_taken_away_in_the_middle_is_forgotten() {
    let mut driver = console();
    driver.offer(1, &[(DATA, 200_000, 0)]);
    assert_eq!(driver.step(), ServeProgress::More);
    driver.put(0x30, 1);
    driver.put(0x44, 0);
    driver.start_queue(1);
    driver.serve();
    assert_eq!((driver.used(1).len(), driver.seen.said.len()), (0, PART_BYTES));
    driver.ram.put(DATA, b"new");
    driver.offer(1, &[(DATA, 3, 0)]);
    driver.serve();
    assert!(driver.seen.said.ends_with(b"new"));
}
