//! What Linux 6.1 does to it, and that it does what KVM's does, step by step.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const LOW: u32 = FIRST_ENTRY as u32;
const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;
const LOGICAL: u32 = 1 << 11;

/// `io_apic_write`.
fn write(apic: &mut IoApic, register: u32, value: u32) {
    apic.write(SELECT, register);
    apic.write(WINDOW, value);
}

/// `io_apic_read`.
fn read(apic: &mut IoApic, register: u32) -> u32 {
    apic.write(SELECT, register);
    apic.read(WINDOW)
}

/// `__ioapic_write_entry`: the upper half first, so that the entry is whole when it is unmasked.
fn write_entry(apic: &mut IoApic, input: u8, low: u32, destination: u8) {
    let register = LOW + 2 * u32::from(input);
    write(apic, register + 1, u32::from(destination) << 24);
    write(apic, register, low);
}

fn low(apic: &mut IoApic, input: u8) -> u32 {
    read(apic, LOW + 2 * u32::from(input))
}

fn set_low(apic: &mut IoApic, input: u8, value: u32) {
    write(apic, LOW + 2 * u32::from(input), value);
}

fn drain(apic: &mut IoApic) -> Vec<Message> {
    let messages: Vec<_> = std::iter::from_fn(|| apic.take_message()).take(INPUTS as usize + 1).collect();
    assert!(messages.len() <= usize::from(INPUTS));
    assert!(!apic.is_pending());
    messages
}

const fn fixed(vector: u8, to: u8, trigger: Trigger) -> Message {
    Message { to: Destination::Physical(to), delivery: Delivery::Fixed(vector), trigger }
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
        apic.set_line(input, Line::High);
    }
    assert_eq!(drain(&mut apic), []);
    assert_eq!(low(&mut apic, 4), 0x0034);
}

#[test]
fn an_edge_is_sent_once_a_rise() {
    let mut apic = with_entry(4, 0x0034, 2);
    let message = fixed(0x34, 2, Trigger::Edge);
    apic.set_line(4, Line::High);
    assert!(apic.is_pending());
    assert_eq!(drain(&mut apic), [message]);
    apic.set_line(4, Line::High);
    apic.end_of_interrupt(0x34);
    assert_eq!(drain(&mut apic), [], "still high");
    apic.set_line(4, Line::Low);
    assert_eq!(drain(&mut apic), []);
    apic.set_line(4, Line::High);
    apic.set_line(4, Line::Low);
    assert_eq!(drain(&mut apic), [message], "a short one too");
    assert_eq!(low(&mut apic, 4), 0x0034, "no remote IRR");
}

#[test]
fn an_edge_that_comes_while_masked_is_lost() {
    let mut apic = with_entry(4, MASKED | 0x0034, 0);
    apic.set_line(4, Line::High);
    set_low(&mut apic, 4, 0x0034);
    assert_eq!(drain(&mut apic), []);
    apic.set_line(4, Line::Low);
    apic.set_line(4, Line::High);
    assert_eq!(drain(&mut apic), [fixed(0x34, 0, Trigger::Edge)]);
}

#[test]
fn a_level_is_sent_once_and_again_after_its_end_while_it_is_high() {
    let mut apic = with_entry(9, LEVEL | 0x0039, 1);
    let message = fixed(0x39, 1, Trigger::Level);
    apic.set_line(9, Line::High);
    assert_eq!(drain(&mut apic), [message]);
    assert_eq!(low(&mut apic, 9), LEVEL | REMOTE_IRR | 0x0039);
    apic.set_line(9, Line::Low);
    apic.set_line(9, Line::High);
    assert_eq!(drain(&mut apic), [], "in service");
    apic.end_of_interrupt(0x38);
    assert_eq!(drain(&mut apic), [], "another vector");
    apic.end_of_interrupt(0x39);
    assert_eq!(drain(&mut apic), [message], "still high");
    apic.set_line(9, Line::Low);
    apic.end_of_interrupt(0x39);
    assert_eq!(drain(&mut apic), []);
    assert_eq!(low(&mut apic, 9), LEVEL | 0x0039);
}

#[test]
fn one_end_is_for_all_entries_with_the_vector() {
    let mut apic = with_entry(9, LEVEL | 0x0039, 1);
    write_entry(&mut apic, 10, LEVEL | 0x0039, 2);
    apic.set_line(9, Line::High);
    apic.set_line(10, Line::High);
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
        apic.set_line(9, Line::High);
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
        (0x0041, edge(Delivery::Fixed(0x41))),
        (LEVEL | 0x0041, vector(Delivery::Fixed(0x41), Trigger::Level)),
        (0x0141, edge(Delivery::LowestPriority(0x41))),
        (LEVEL | 0x0141, vector(Delivery::LowestPriority(0x41), Trigger::Level)),
        (0x0200, None),
        (0x0300, None),
        (0x0441, edge(Delivery::Nmi)),
        (LEVEL | 0x0441, edge(Delivery::Nmi)),
        (LEVEL | 0x0500, edge(Delivery::Init)),
        (0x0600, None),
        (0x0700, edge(Delivery::ExtInt)),
        (LEVEL | 0x0700, edge(Delivery::ExtInt)),
        (LEVEL | 0x0200, None),
    ];
    for (entry, message) in cases {
        let mut apic = with_entry(0, entry, 7);
        apic.set_line(0, Line::High);
        assert_eq!(drain(&mut apic), Vec::from_iter(message), "{entry:#x}");
        assert_eq!(drain(&mut apic), [], "{entry:#x}");
    }
    let mut apic = with_entry(0, LOGICAL | 0x0041, 0x81);
    apic.set_line(0, Line::High);
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
            apic.set_line(input, Line::Low);
            apic.set_line(input, Line::High);
        }
    }
    assert_eq!(drain(&mut apic).len(), 24);
}

#[test]
fn an_edge_that_nobody_took_is_forgotten_when_the_entry_becomes_a_level() {
    let mut apic = with_entry(4, 0x0034, 0);
    apic.set_line(4, Line::High);
    apic.set_line(4, Line::Low);
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

/// One operation on the device.
#[derive(Clone, Copy, Debug)]
enum Step {
    Line(u8, Line),
    Half(u8, Half, u32),
    Raw(u16, u32),
    End(u8),
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![Just(Line::Low), Just(Line::High)]
}

/// Anything; more often what has an effect. Few vectors, so that ends meet them.
fn any_step() -> impl Strategy<Value = Step> {
    let half = prop_oneof![Just(Half::Low), Just(Half::High)];
    prop_oneof![
        4 => (any::<u8>().prop_map(|n| n % 32), line()).prop_map(|(input, line)| Step::Line(input, line)),
        4 => (0..INPUTS, half, any::<u32>())
            .prop_map(|(input, half, value)| Step::Half(input, half, value & !0xFC)),
        1 => (any::<u16>(), any::<u32>()).prop_map(|(offset, value)| Step::Raw(offset, value)),
        1 => (prop_oneof![Just(SELECT), Just(WINDOW), Just(EOI)], any::<u32>())
            .prop_map(|(offset, value)| Step::Raw(offset, value)),
        3 => (0_u8..5).prop_map(Step::End),
    ]
}

/// An input as `kvm/ioapic.c` has it: looked at when it changes, when its entry is written, and at its end. Two things are the manual's
/// instead: NMI, INIT and ExtINT are edges, and the reserved bits read 0.
#[derive(Clone, Copy)]
struct Kvm {
    low: u32,
    high: u32,
    line: Line,
    remote_irr: bool,
}

impl Kvm {
    const NEW: Self = Self { low: MASKED, high: 0, line: Line::Low, remote_irr: false };

    fn mode(self) -> u32 {
        self.low >> 8 & 7
    }

    fn trigger(self) -> Trigger {
        if self.low & LEVEL != 0 && self.mode() < 2 { Trigger::Level } else { Trigger::Edge }
    }

    /// `ioapic_service`.
    fn service(&mut self) -> Option<Message> {
        if self.low & MASKED != 0 || self.remote_irr {
            return None;
        }
        self.remote_irr = self.trigger() == Trigger::Level;
        let vector = self.low.to_le_bytes()[0];
        let delivery = match self.mode() {
            0 => Delivery::Fixed(vector),
            1 => Delivery::LowestPriority(vector),
            4 => Delivery::Nmi,
            5 => Delivery::Init,
            7 => Delivery::ExtInt,
            _ => return None,
        };
        let destination = self.high.to_le_bytes()[3];
        let to = if self.low & LOGICAL == 0 {
            Destination::Physical(destination)
        } else {
            Destination::Logical(destination)
        };
        Some(Message { to, delivery, trigger: self.trigger() })
    }

    /// `ioapic_set_irq`.
    fn set_line(&mut self, line: Line) -> Option<Message> {
        let before = std::mem::replace(&mut self.line, line);
        match (line, self.trigger()) {
            (Line::Low, _) => None,
            (Line::High, Trigger::Edge) if before == Line::High => None,
            (Line::High, _) => self.service(),
        }
    }

    fn service_level(&mut self) -> Option<Message> {
        if self.trigger() == Trigger::Level && self.line == Line::High { self.service() } else { None }
    }

    /// `ioapic_write_indirect`.
    fn write(&mut self, half: Half, value: u32) -> Option<Message> {
        match half {
            Half::Low => self.low = value & 0x0001_AFFF,
            Half::High => self.high = value & 0xFF00_0000,
        }
        self.remote_irr &= self.trigger() == Trigger::Level;
        self.service_level()
    }

    /// `__kvm_ioapic_update_eoi`.
    fn end(&mut self, vector: u8) -> Option<Message> {
        if self.low.to_le_bytes()[0] != vector {
            return None;
        }
        self.remote_irr = false;
        self.service_level()
    }
}

/// The device and the model, side by side.
struct Pair {
    apic: IoApic,
    model: [Kvm; INPUTS as usize],
}

impl Pair {
    /// Makes one step in both; returns what each sends.
    fn step(&mut self, step: Step) -> (Vec<Message>, Vec<Message>) {
        let expected = self.make(step);
        (drain(&mut self.apic), expected)
    }

    /// Makes one step in both; returns what the model sends.
    fn make(&mut self, step: Step) -> Vec<Message> {
        let selected = self.apic.read(SELECT).to_le_bytes()[0];
        match step {
            Step::Line(input, line) => {
                self.apic.set_line(input, line);
                Vec::from_iter(self.model.get_mut(usize::from(input)).and_then(|entry| entry.set_line(line)))
            }
            Step::Half(input, half, value) => {
                write(&mut self.apic, LOW + 2 * u32::from(input) + u32::from(half == Half::High), value);
                Vec::from_iter(self.model[usize::from(input)].write(half, value))
            }
            Step::Raw(offset, value) => {
                self.apic.write(offset, value);
                match offset {
                    WINDOW if (FIRST_ENTRY..=LAST_ENTRY).contains(&selected) => {
                        let half = if selected & 1 == 0 { Half::Low } else { Half::High };
                        let input = usize::from((selected - FIRST_ENTRY) / 2);
                        Vec::from_iter(self.model[input].write(half, value))
                    }
                    EOI => self.end(value.to_le_bytes()[0]),
                    _ => Vec::new(),
                }
            }
            Step::End(vector) => {
                self.apic.end_of_interrupt(vector);
                self.end(vector)
            }
        }
    }

    fn end(&mut self, vector: u8) -> Vec<Message> {
        self.model.iter_mut().filter_map(|entry| entry.end(vector)).collect()
    }
}

/// A step on an entry that can be told by its vector, 0x40 and its number.
fn plain_step() -> impl Strategy<Value = Step> {
    let modes = prop::bits::u32::masked(MASKED | LEVEL | LOGICAL | 1 << 8);
    prop_oneof![
        3 => (0..INPUTS, line()).prop_map(|(input, line)| Step::Line(input, line)),
        2 => (0..INPUTS, modes)
            .prop_map(|(input, modes)| Step::Half(input, Half::Low, modes | u32::from(0x40 + input))),
        2 => (0..INPUTS).prop_map(|input| Step::End(0x40 + input)),
    ]
}

proptest! {
    #[test]
    fn it_does_step_by_step_what_kvm_does(steps in prop::collection::vec(any_step(), 1..200)) {
        let mut pair = Pair { apic: IoApic::new(), model: [Kvm::NEW; INPUTS as usize] };
        for step in steps {
            let (sent, expected) = pair.step(step);
            prop_assert_eq!(sent, expected, "{:?}", step);
            let mut vectors = [0_u64; 4];
            let selected = pair.apic.read(SELECT);
            for (model, input) in pair.model.iter().zip(0..) {
                let waits = if model.remote_irr { REMOTE_IRR } else { 0 };
                prop_assert_eq!(low(&mut pair.apic, input), model.low | waits, "{} after {:?}", input, step);
                prop_assert_eq!(read(&mut pair.apic, LOW + 2 * u32::from(input) + 1), model.high);
                if model.trigger() == Trigger::Level {
                    let [vector, ..] = model.low.to_le_bytes();
                    vectors[usize::from(vector / 64)] |= 1 << (vector % 64);
                }
            }
            pair.apic.write(SELECT, selected);
            prop_assert_eq!(*pair.apic.level_vectors(), vectors);
        }
    }

    #[test]
    fn who_takes_late_gets_24_at_most(steps in prop::collection::vec(any_step(), 1..200)) {
        let mut pair = Pair { apic: IoApic::new(), model: [Kvm::NEW; INPUTS as usize] };
        for step in steps {
            pair.make(step);
        }
        drain(&mut pair.apic);
    }

    #[test]
    fn a_level_is_in_service_once_and_no_unmasked_edge_is_lost(steps in prop::collection::vec(plain_step(), 1..200)) {
        let mut apic = IoApic::new();
        let mut modes = [MASKED; INPUTS as usize];
        let mut lines = [Line::Low; INPUTS as usize];
        let mut in_service = [false; INPUTS as usize];
        for step in steps {
            let mut rises = None;
            match step {
                Step::Line(input, line) => {
                    let n = usize::from(input);
                    let before = std::mem::replace(&mut lines[n], line);
                    let edge = modes[n] & (LEVEL | MASKED) == 0;
                    rises = (edge && before == Line::Low && line == Line::High).then_some(n);
                    apic.set_line(input, line);
                }
                Step::Half(input, _, low) => {
                    let n = usize::from(input);
                    modes[n] = low;
                    in_service[n] &= low & LEVEL != 0;
                    set_low(&mut apic, input, low);
                }
                Step::End(vector) => {
                    in_service[usize::from(vector - 0x40)] = false;
                    apic.end_of_interrupt(vector);
                }
                Step::Raw(..) => {}
            }
            for message in drain(&mut apic) {
                let (Delivery::Fixed(vector) | Delivery::LowestPriority(vector)) = message.delivery else {
                    panic!("{message:?}");
                };
                let n = usize::from(vector - 0x40);
                prop_assert_eq!(modes[n] & MASKED, 0);
                match message.trigger {
                    Trigger::Edge => prop_assert_eq!(rises.take(), Some(n), "{:?}", step),
                    Trigger::Level => {
                        prop_assert_eq!(lines[n], Line::High);
                        prop_assert!(!std::mem::replace(&mut in_service[n], true), "twice after {:?}", step);
                    }
                }
            }
            prop_assert_eq!(rises, None, "lost: {:?}", step);
            for n in 0..usize::from(INPUTS) {
                let wanted = lines[n] == Line::High && modes[n] & (LEVEL | MASKED) == LEVEL;
                prop_assert!(in_service[n] || !wanted, "input {} not sent after {:?}", n, step);
            }
        }
    }
}
