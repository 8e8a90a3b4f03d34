//! Frames between cards.

use super::*;
use crate::device::virtio::driver::{Driver, WRITE};
use crate::device::virtio::switch::INBOX_FRAMES;
use crate::device::virtio::{Device, ServeProgress};
use alloc::boxed::Box;
use alloc::vec::Vec;

const DATA: u64 = 0x8_0000;
const A: [u8; 6] = [2, 0, 0, 0, 0, 0xA];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xB];
const ALL: [u8; 6] = [0xFF; 6];

fn pair() -> (Driver, Driver, &'static Switch) {
    let switch: &Switch = Box::leak(Box::new(Switch::new(2)));
    let card = |mac, port| Driver::ready(Device::Net(Net::new(mac, switch, Port(port))));
    (card(A, 0), card(B, 1), switch)
}

fn frame(to: [u8; 6], from: [u8; 6], text: &[u8]) -> Vec<u8> {
    [&to[..], &from, &[8, 0], text].concat()
}

/// Puts a frame behind a header and sends both.
fn send(driver: &mut Driver, frame: &[u8]) {
    driver.ram.put(DATA, &[0; 12]);
    driver.ram.put(DATA + 12, frame);
    driver.offer(1, &[(DATA, 12 + u32::try_from(frame.len()).unwrap(), 0)]);
    driver.serve();
    assert_eq!(driver.used(1).len(), 1);
}

#[test]
fn the_address_is_told() {
    let (a, _, _) = pair();
    assert_eq!(a.transport.device().features(), 1 << 5);
    assert_eq!(a.transport.read(0x100, 8), 0x0A00_0000_0002);
}

#[test]
fn a_frame_reaches_the_other_card_behind_a_header() {
    let (mut a, mut b, _) = pair();
    let sent = frame(ALL, A, b"who is there?");
    send(&mut a, &sent);
    assert_eq!(a.seen.woken, 0b10);
    let head = b.offer(0, &[(DATA, 12, WRITE), (DATA + 0x1000, 1514, WRITE)]);
    b.serve();
    assert_eq!(b.used(0), [(head, 12 + 27)]);
    assert_eq!(b.ram.get(DATA, 12), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(b.ram.get(DATA + 0x1000, 27), sent);
    assert!(b.transport.line() && b.used(0).is_empty());
}

#[test]
fn frames_wait_for_buffers_and_buffers_for_frames() {
    let (mut a, mut b, switch) = pair();
    send(&mut a, &frame(ALL, A, b"1"));
    b.serve();
    assert!(switch.has_frame(Port(1)));
    for n in 0..3 {
        b.offer(0, &[(DATA + 0x1000 * n, 1526, WRITE)]);
    }
    b.serve();
    assert_eq!(b.used(0), [(0, 27)]);
    send(&mut a, &frame(B, A, b"22"));
    b.serve();
    assert_eq!(b.used(0), [(1, 28)]);
}

#[test]
fn a_frame_of_a_wrong_length_is_given_back_and_not_sent() {
    let (mut a, mut b, _) = pair();
    for len in [0, 13, 14, 1514, 1515, 100_000] {
        send(&mut a, &alloc::vec![0xFF; len]);
    }
    b.offer(0, &[(DATA, 1526, WRITE)]);
    b.offer(0, &[(DATA, 1526, WRITE)]);
    b.serve();
    assert_eq!(b.used(0), [(0, 26), (1, 1526)]);
}

#[test]
fn a_buffer_too_small_loses_its_frame_and_nothing_is_written_past_it() {
    let (mut a, mut b, _) = pair();
    send(&mut a, &frame(ALL, A, b"long"));
    b.offer(0, &[(DATA, 29, WRITE)]);
    let _ = b.ram.take_written();
    b.serve();
    assert_eq!(b.used(0), [(0, 0)]);
    assert!(b.ram.take_written().iter().all(|written| written.end < DATA));
    b.offer(0, &[(DATA, 1526, WRITE)]);
    b.serve();
    assert!(b.used(0).is_empty(), "the frame is dropped");
}

#[test]
fn a_buffer_without_room_for_a_header_breaks_the_queue() {
    let (mut a, _, _) = pair();
    a.offer(1, &[(DATA, 11, 0)]);
    a.serve();
    assert!(a.is_broken());
}

#[test]
fn a_burst_takes_several_steps_and_a_full_inbox_loses_the_rest() {
    let (mut a, mut b, _) = pair();
    a.ram.put(DATA, &[0xFF; 100]);
    for _ in 0..80 {
        a.offer(1, &[(DATA, 72, 0)]);
    }
    assert_eq!(a.step(), ServeProgress::More);
    assert_eq!(a.used(1).len(), 16);
    a.serve();
    assert_eq!(a.used(1).len(), 64);
    for _ in 0..80 {
        b.offer(0, &[(DATA, 1526, WRITE)]);
    }
    b.serve();
    assert_eq!(b.used(0).len(), INBOX_FRAMES);
}
