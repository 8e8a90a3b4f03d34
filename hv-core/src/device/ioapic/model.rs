//! Arbitrary steps: that it does what KVM's does, and what is never to happen.

use super::tests::{LEVEL, LOGICAL, LOW, MASKED, drain, low, read, set_low, write};
use super::*;
use proptest::prelude::*;
use std::vec::Vec;

/// One operation on the device.
#[derive(Clone, Copy, Debug)]
enum Step {
    Level(u8, Level),
    Half(u8, Half, u32),
    Raw(u16, u32),
    End(u8),
}

fn line() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::Low), Just(Level::High)]
}

/// Anything; more often what has an effect. Few vectors, so that ends meet them.
fn any_step() -> impl Strategy<Value = Step> {
    let half = prop_oneof![Just(Half::Low), Just(Half::High)];
    prop_oneof![
        4 => (any::<u8>().prop_map(|n| n % 32), line()).prop_map(|(input, line)| Step::Level(input, line)),
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
    line: Level,
    remote_irr: bool,
}

impl Kvm {
    const NEW: Self = Self { low: MASKED, high: 0, line: Level::Low, remote_irr: false };

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
            0 => EntryDelivery::Fixed(vector),
            1 => EntryDelivery::LowestPriority(vector),
            4 => EntryDelivery::Nmi,
            5 => EntryDelivery::Init,
            7 => EntryDelivery::ExtInt,
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
    fn set_level(&mut self, line: Level) -> Option<Message> {
        let before = std::mem::replace(&mut self.line, line);
        match (line, self.trigger()) {
            (Level::Low, _) => None,
            (Level::High, Trigger::Edge) if before == Level::High => None,
            (Level::High, _) => self.service(),
        }
    }

    fn service_level(&mut self) -> Option<Message> {
        if self.trigger() == Trigger::Level && self.line == Level::High { self.service() } else { None }
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
            Step::Level(input, line) => {
                self.apic.set_level(input, line);
                Vec::from_iter(self.model.get_mut(usize::from(input)).and_then(|entry| entry.set_level(line)))
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
        3 => (0..INPUTS, line()).prop_map(|(input, line)| Step::Level(input, line)),
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
        let mut lines = [Level::Low; INPUTS as usize];
        let mut in_service = [false; INPUTS as usize];
        for step in steps {
            let mut rises = None;
            match step {
                Step::Level(input, line) => {
                    let n = usize::from(input);
                    let before = std::mem::replace(&mut lines[n], line);
                    let edge = modes[n] & (LEVEL | MASKED) == 0;
                    rises = (edge && before == Level::Low && line == Level::High).then_some(n);
                    apic.set_level(input, line);
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
                let (EntryDelivery::Fixed(vector) | EntryDelivery::LowestPriority(vector)) = message.delivery else {
                    panic!("{message:?}");
                };
                let n = usize::from(vector - 0x40);
                prop_assert_eq!(modes[n] & MASKED, 0);
                match message.trigger {
                    Trigger::Edge => prop_assert_eq!(rises.take(), Some(n), "{:?}", step),
                    Trigger::Level => {
                        prop_assert_eq!(lines[n], Level::High);
                        prop_assert!(!std::mem::replace(&mut in_service[n], true), "twice after {:?}", step);
                    }
                }
            }
            prop_assert_eq!(rises, None, "lost: {:?}", step);
            for n in 0..usize::from(INPUTS) {
                let wanted = lines[n] == Level::High && modes[n] & (LEVEL | MASKED) == LEVEL;
                prop_assert!(in_service[n] || !wanted, "input {} not sent after {:?}", n, step);
            }
        }
    }
}
