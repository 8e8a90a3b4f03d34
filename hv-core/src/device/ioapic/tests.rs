//! What Linux 6.1 does to it.

use super::*;
use std::vec::Vec;

pub(super) const LOW: u32 = FIRST_ENTRY as u32;
pub(super) const MASKED: u32 = 1 << 16;
pub(super) const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;
pub(super) const LOGICAL: u32 = 1 << 11;

/// `io_apic_write`.
pub(super) fn write(apic: &mut IoApic, register: u32, value: u32) {
    apic.write(SELECT, register);
    apic.write(WINDOW, value);
}

/// `io_apic_read`.
pub(super) fn read(apic: &mut IoApic, register: u32) -> u32 {
    apic.write(SELECT, register);
    apic.read(WINDOW)
}

/// `__ioapic_write_entry`: the upper half first, so that the entry is whole when it is unmasked.
fn write_entry(apic: &mut IoApic, input: u8, low: u32, destination: u8) {
    let register = LOW + 2 * u32::from(input);
    write(apic, register + 1, u32::from(destination) << 24);
    write(apic, register, low);
}

pub(super) fn low(apic: &mut IoApic, input: u8) -> u32 {
    read(apic, LOW + 2 * u32::from(input))
}

pub(super) fn set_low(apic: &mut IoApic, input: u8, value: u32) {
    write(apic, LOW + 2 * u32::from(input), value);
}

pub(super) fn drain(apic: &mut IoApic) -> Vec<Message> {
    let messages: Vec<_> = std::iter::from_fn(|| apic.take_message()).take(INPUTS as usize + 1).collect();
    assert!(messages.len() <= usize::from(INPUTS));
    assert!(!apic.is_pending());
    messages
}

const fn fixed(vector: u8, to: u8, trigger: Trigger) -> Message {
    Message { to: Destination::Physical(to), delivery: EntryDelivery::Fixed(vector), trigger }
}

/// An APIC with one entry, unmasked.
fn with_entry(input: u8, low: u32, destination: u8) -> IoApic {
    let mut apic = IoApic::new();
    write_entry(&mut apic, input, low, destination);
    apic
}

#[test]
fn linux_finds_24_inputs_and_an_eoi_register() {
    let mut apic = IoApic::new();
    assert_eq!(read(&mut apic, 1), 0x0017_0020);
    assert_eq!(read(&mut apic, 0), 0);
    write(&mut apic, 0, 0xFFFF_FFFF);
    assert_eq!(read(&mut apic, 0), 0x0F00_0000);
    assert_eq!(read(&mut apic, 2), 0x0F00_0000);
    for input in 0..INPUTS {
        assert_eq!(low(&mut apic, input), MASKED, "{input}");
    }
}

#[test]
fn only_the_named_bits_of_an_entry_are_kept() {
    for (value, kept) in [(0xFFFF_FFFF, 0x0001_AFFF), (0, 0)] {
        let mut apic = IoApic::new();
        write(&mut apic, LOW + 46, value);
        assert_eq!(read(&mut apic, LOW + 46), kept);
        write(&mut apic, LOW + 47, value);
        assert_eq!(read(&mut apic, LOW + 47), value & 0xFF00_0000);
        assert_eq!(low(&mut apic, 22), MASKED, "its neighbour");
    }
}

#[test]
fn where_there_is_no_register_nothing_happens() {
    let mut apic = with_entry(4, 0x0034, 0);
    for register in (3..0x10).chain(0x40..0x100) {
        write(&mut apic, register, 0);
        assert_eq!(read(&mut apic, register), 0, "{register:#x}");
    }
    write(&mut apic, 0xFFFF_FF12, MASKED);
    assert_eq!(apic.read(SELECT), 0x12, "8 bits");
    for offset in (0..0x1000).filter(|offset| ![SELECT, WINDOW, EOI].contains(offset)) {
        apic.write(offset, 0x18);
        assert_eq!((apic.read(offset), apic.read(SELECT)), (0, 0x12), "{offset:#x}");
    }
    for input in INPUTS..=u8::MAX {
        apic.set_level(input, Level::High);
    }
    assert_eq!(drain(&mut apic), []);
    assert_eq!(low(&mut apic, 4), 0x0034);
}

#[test]
fn an_edge_is_sent_once_a_rise() {
    let mut apic = with_entry(4, 0x0034, 2);
    let message = fixed(0x34, 2, Trigger::Edge);
    apic.set_level(4, Level::High);
    assert!(apic.is_pending());
    assert_eq!(drain(&mut apic), [message]);
    apic.set_level(4, Level::High);
    apic.end_of_interrupt(0x34);
    assert_eq!(drain(&mut apic), [], "still high");
    apic.set_level(4, Level::Low);
    assert_eq!(drain(&mut apic), []);
    apic.set_level(4, Level::High);
    apic.set_level(4, Level::Low);
    assert_eq!(drain(&mut apic), [message], "a short one too");
    assert_eq!(low(&mut apic, 4), 0x0034, "no remote IRR");
}

#[test]
fn an_edge_that_comes_while_masked_is_lost() {
    let mut apic = with_entry(4, MASKED | 0x0034, 0);
    apic.set_level(4, Level::High);
    set_low(&mut apic, 4, 0x0034);
    assert_eq!(drain(&mut apic), []);
    apic.set_level(4, Level::Low);
    apic.set_level(4, Level::High);
    assert_eq!(drain(&mut apic), [fixed(0x34, 0, Trigger::Edge)]);
}

#[test]
fn a_level_is_sent_once_and_again_after_its_end_while_it_is_high() {
    let mut apic = with_entry(9, LEVEL | 0x0039, 1);
    let message = fixed(0x39, 1, Trigger::Level);
    apic.set_level(9, Level::High);
    assert_eq!(drain(&mut apic), [message]);
    assert_eq!(low(&mut apic, 9), LEVEL | REMOTE_IRR | 0x0039);
    apic.set_level(9, Level::Low);
    apic.set_level(9, Level::High);
    assert_eq!(drain(&mut apic), [], "in service");
    apic.end_of_interrupt(0x38);
    assert_eq!(drain(&mut apic), [], "another vector");
    apic.end_of_interrupt(0x39);
    assert_eq!(drain(&mut apic), [message], "still high");
    apic.set_level(9, Level::Low);
    apic.end_of_interrupt(0x39);
    assert_eq!(drain(&mut apic), []);
    assert_eq!(low(&mut apic, 9), LEVEL | 0x0039);
}

#[test]
fn one_end_is_for_all_entries_with_the_vector() {
    let mut apic = with_entry(9, LEVEL | 0x0039, 1);
    write_entry(&mut apic, 10, LEVEL | 0x0039, 2);
    apic.set_level(9, Level::High);
    apic.set_level(10, Level::High);
    let both = [fixed(0x39, 1, Trigger::Level), fixed(0x39, 2, Trigger::Level)];
    assert_eq!(drain(&mut apic), both);
    apic.write(EOI, 0xFFFF_FF39);
    assert_eq!(drain(&mut apic), both);
}

/// Each step of Linux while a level is high and in service: what it writes, and what is sent.
#[test]
fn what_linux_does_with_a_level_in_service_sends_it_once() {
    type Step = fn(&mut IoApic);
    const ENTRY: u32 = LEVEL | ACTIVE_LOW | 0x0039;
    let again = fixed(0x39, 1, Trigger::Level);
    let cases: [(&str, Step, &[Message], u32); 7] = [
        ("mask_ioapic_irq", |apic| set_low(apic, 9, MASKED | ENTRY), &[], MASKED | ENTRY | REMOTE_IRR),
        (
            "mask, EOI, unmask: handle_fasteoi_irq of a threaded one",
            |apic| {
                set_low(apic, 9, MASKED | ENTRY);
                apic.end_of_interrupt(0x39);
                assert!(!apic.is_pending(), "masked");
                set_low(apic, 9, ENTRY);
            },
            &[again],
            ENTRY | REMOTE_IRR,
        ),
        ("unmask without an end", |apic| set_low(apic, 9, ENTRY), &[], ENTRY | REMOTE_IRR),
        ("__eoi_ioapic_pin from 0x20 on", |apic| apic.write(EOI, 0x39), &[again], ENTRY | REMOTE_IRR),
        (
            "__eoi_ioapic_pin before 0x20",
            |apic| {
                write_entry(apic, 9, MASKED | ENTRY & !LEVEL, 1);
                assert!(!apic.is_pending(), "masked");
                write_entry(apic, 9, ENTRY, 1);
            },
            &[again],
            ENTRY | REMOTE_IRR,
        ),
        (
            "ioapic_set_affinity: the next one goes to another processor",
            |apic| {
                write_entry(apic, 9, ENTRY, 3);
                assert!(!apic.is_pending(), "in service");
                apic.end_of_interrupt(0x39);
            },
            &[fixed(0x39, 3, Trigger::Level)],
            ENTRY | REMOTE_IRR,
        ),
        (
            "clear_IO_APIC_pin",
            |apic| {
                write_entry(apic, 9, MASKED | ENTRY, 1);
                assert_eq!(low(apic, 9) & REMOTE_IRR, REMOTE_IRR);
                apic.write(EOI, 0x39);
                set_low(apic, 9, MASKED);
            },
            &[],
            MASKED,
        ),
    ];
    for (name, step, sent, after) in cases {
        let mut apic = with_entry(9, ENTRY, 1);
        apic.set_level(9, Level::High);
        assert_eq!(drain(&mut apic), [again], "{name}");
        step(&mut apic);
        assert_eq!(drain(&mut apic), sent, "{name}");
        assert_eq!(low(&mut apic, 9), after, "{name}");
    }
}

#[test]
fn every_delivery_mode_is_sent_as_the_manual_says() {
    let to = Destination::Physical(7);
    let vector = |delivery, trigger| Some(Message { to, delivery, trigger });
    let edge = |delivery| vector(delivery, Trigger::Edge);
    let cases = [
        (0x0041, edge(EntryDelivery::Fixed(0x41))),
        (LEVEL | 0x0041, vector(EntryDelivery::Fixed(0x41), Trigger::Level)),
        (0x0141, edge(EntryDelivery::LowestPriority(0x41))),
        (LEVEL | 0x0141, vector(EntryDelivery::LowestPriority(0x41), Trigger::Level)),
        (0x0200, None),
        (0x0300, None),
        (0x0441, edge(EntryDelivery::Nmi)),
        (LEVEL | 0x0441, edge(EntryDelivery::Nmi)),
        (LEVEL | 0x0500, edge(EntryDelivery::Init)),
        (0x0600, None),
        (0x0700, edge(EntryDelivery::ExtInt)),
        (LEVEL | 0x0700, edge(EntryDelivery::ExtInt)),
        (LEVEL | 0x0200, None),
    ];
    for (entry, message) in cases {
        let mut apic = with_entry(0, entry, 7);
        apic.set_level(0, Level::High);
        assert_eq!(drain(&mut apic), Vec::from_iter(message), "{entry:#x}");
        assert_eq!(drain(&mut apic), [], "{entry:#x}");
    }
    let mut apic = with_entry(0, LOGICAL | 0x0041, 0x81);
    apic.set_level(0, Level::High);
    let logical = Message { to: Destination::Logical(0x81), ..fixed(0x41, 0, Trigger::Edge) };
    assert_eq!(drain(&mut apic), [logical]);
}

#[test]
fn all_inputs_at_once_are_24_messages() {
    let mut apic = IoApic::new();
    for input in 0..INPUTS {
        let trigger = if input & 1 == 0 { LEVEL } else { 0 };
        write_entry(&mut apic, input, trigger | u32::from(0x30 + input), 0);
    }
    for _ in 0..2 {
        for input in 0..INPUTS {
            apic.set_level(input, Level::Low);
            apic.set_level(input, Level::High);
        }
    }
    assert_eq!(drain(&mut apic).len(), 24);
}

#[test]
fn an_edge_that_nobody_took_is_forgotten_when_the_entry_becomes_a_level() {
    let mut apic = with_entry(4, 0x0034, 0);
    apic.set_level(4, Level::High);
    apic.set_level(4, Level::Low);
    set_low(&mut apic, 4, LEVEL | 0x0034);
    assert_eq!(drain(&mut apic), []);
}

#[test]
fn level_vectors_are_those_of_the_entries() {
    let mut apic = with_entry(9, LEVEL | 0x0039, 0);
    write_entry(&mut apic, 10, LEVEL | 0x0039, 0);
    write_entry(&mut apic, 11, MASKED | LEVEL | 0x00FF, 0);
    write_entry(&mut apic, 12, LEVEL | 0x0440, 0);
    assert_eq!(*apic.level_vectors(), [1 << 0x39, 0, 0, 1 << 63]);
    set_low(&mut apic, 10, 0x0039);
    set_low(&mut apic, 11, LEVEL | 0x0080);
    assert_eq!(*apic.level_vectors(), [1 << 0x39, 0, 1, 0], "another has it still");
    set_low(&mut apic, 9, MASKED);
    assert_eq!(*apic.level_vectors(), [0, 0, 1, 0]);
}
