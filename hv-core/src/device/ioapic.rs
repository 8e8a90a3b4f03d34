//! An I/O APIC with 24 inputs: its page of registers, and the messages that it sends to the local APICs.
//!
//! Section numbers: Intel 82093AA data sheet, order number 290566-001. Destinations of 8 bits and the EOI register are those of
//! its successor in the ICH9 (data sheet 316972-004, §13.5). Owns the redirection table and the state of each input; the caller
//! resolves a message's destination, and reports the end of a vector.
//!
//! Its version is 0x20, as QEMU's, and not 0x11, as KVM's: from 0x20 on, Linux ends a level by one write to the EOI register
//! (`__eoi_ioapic_pin`); otherwise it makes the entry an edge and a level again, in twelve accesses. The second way works too: an entry
//! that becomes edge-triggered clears its remote IRR. Linux needs one of them for a level that arrived as an edge (`ioapic_ack_level`
//! checks TMR) and for one that an earlier kernel left behind (`clear_IO_APIC_pin`).

mod entry;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use entry::{Entry, Half, REMOTE_IRR};

/// Guest-physical address of the register page, as on a PC.
pub const ADDRESS: u32 = 0xFEC0_0000;
/// Number of inputs.
pub const INPUTS: u8 = 24;

/// Offset of IOREGSEL (§3.1.1).
const SELECT: u16 = 0x00;
/// Offset of IOWIN (§3.1.2).
const WINDOW: u16 = 0x10;
/// Offset of the EOI register.
const EOI: u16 = 0x40;
/// First register of the redirection table, which has two registers per entry.
const FIRST_ENTRY: u8 = 0x10;
const LAST_ENTRY: u8 = FIRST_ENTRY + 2 * INPUTS - 1;
/// IOAPICVER (§3.2.2): version 0x20, and the last entry.
const VERSION: u32 = (INPUTS as u32 - 1) << 16 | 0x20;
/// Position of the id in IOAPICID and IOAPICARB (§3.2.1, §3.2.3).
const ID_SHIFT: u32 = 24;
const ID_BITS: u32 = 0xF << ID_SHIFT;

/// The logical state of an input, independent of its polarity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Not asserted.
    Low,
    /// Asserted.
    High,
}

/// Destination of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// The processor with this APIC id; all of them for 0xFF.
    Physical(u8),
    /// The processors whose logical id matches these bits.
    Logical(u8),
}

/// The event that the receivers get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryDelivery {
    /// This vector; the receiver refuses it below 16.
    Fixed(u8),
    /// This vector, to one of the receivers.
    LowestPriority(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// INIT: reset and wait for a start-up.
    Init,
    /// The vector that the 8259A gives.
    ExtInt,
}

/// Whether the receiver reports the end of the interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// Edge-triggered: the receiver does not report the end.
    Edge,
    /// Level-triggered: the caller reports the end by [`IoApic::end_of_interrupt`].
    Level,
}

/// The message that an input sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The receivers.
    pub to: Destination,
    /// The event that the receivers get.
    pub delivery: EntryDelivery,
    /// Level only with a vector.
    pub trigger: Trigger,
}

/// A register behind IOWIN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Register {
    Id,
    Version,
    Arbitration,
    /// Of the entry of this input.
    Entry(u8, Half),
}

impl Register {
    const fn at(index: u8) -> Option<Self> {
        Some(match index {
            0 => Self::Id,
            1 => Self::Version,
            2 => Self::Arbitration,
            FIRST_ENTRY..=LAST_ENTRY => {
                let half = if index & 1 == 0 { Half::Low } else { Half::High };
                Self::Entry((index - FIRST_ENTRY) >> 1, half)
            }
            _ => return None,
        })
    }
}

/// One I/O APIC. After each operation that may have made a message, which is all but reading, the caller takes them:
/// [`IoApic::take_message`] until there is none, at most one for each input.
///
/// An edge that arrives while its entry is masked is lost (§3.2.4; QEMU and KVM lose it too): a guest that unmasks an edge must check the
/// device first, as Linux does. A level is not lost, since it persists.
#[derive(Clone, Debug)]
pub struct IoApic {
    entries: [Entry; INPUTS as usize],
    /// IOREGSEL.
    selected: u8,
    /// The id, at its position in the register.
    id: u32,
    // In these, bit n stands for input n.
    high: u32,
    /// Entries that are masked.
    masked: u32,
    /// Entries that are level-triggered.
    level: u32,
    /// Rose unmasked, and the message was not taken yet; of edge-triggered entries only.
    risen: u32,
    /// The message was taken, and its end not told yet; of level-triggered entries only.
    remote_irr: u32,
    level_vectors: [u64; 4],
}

/// Returns the input's bit; 0 for an input that does not exist.
const fn bit(input: u8) -> u32 {
    if input < INPUTS { 1 << input } else { 0 }
}

impl IoApic {
    #[expect(clippy::new_without_default, reason = "the state after reset is one of several")]
    /// Returns the APIC after reset: id 0, every entry a masked edge.
    pub const fn new() -> Self {
        Self {
            entries: [Entry::MASKED; INPUTS as usize],
            selected: 0,
            id: 0,
            high: 0,
            masked: (1 << INPUTS) - 1,
            level: 0,
            risen: 0,
            remote_irr: 0,
            level_vectors: [0; 4],
        }
    }

    /// Reads the register at `offset` of the page; 0 if the page has none there.
    pub fn read(&self, offset: u16) -> u32 {
        match offset {
            SELECT => u32::from(self.selected),
            WINDOW => Register::at(self.selected).map_or(0, |register| self.read_register(register)),
            _ => 0,
        }
    }

    /// Writes the register at `offset` of the page.
    pub fn write(&mut self, offset: u16, value: u32) {
        let [low, ..] = value.to_le_bytes();
        match offset {
            SELECT => self.selected = low,
            WINDOW => {
                if let Some(register) = Register::at(self.selected) {
                    self.write_register(register, value);
                }
            }
            EOI => self.end_of_interrupt(low),
            _ => {}
        }
    }

    /// Sets an input, 0 … 23; others have no effect.
    #[inline]
    pub const fn set_level(&mut self, input: u8, line: Level) {
        let bit = bit(input);
        match line {
            Level::High => {
                self.risen |= bit & !(self.high | self.level | self.masked);
                self.high |= bit;
            }
            Level::Low => self.high &= !bit,
        }
    }

    /// A local APIC tells the end of a level-triggered `vector`: entries that wait for it send again if their input is still high.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for (entry, input) in self.entries.iter().zip(0..) {
            if entry.vector() == vector {
                self.remote_irr &= !bit(input);
            }
        }
    }

    /// The vectors whose end is to be told here, masked entries' too; bit n of word m is vector 64 m + n.
    #[inline]
    pub const fn level_vectors(&self) -> &[u64; 4] {
        &self.level_vectors
    }

    /// Returns the message that an input sends when it rises; `None` while it is masked.
    pub fn message_of(&self, input: u8) -> Option<Message> {
        let entry = self.entries.get(usize::from(input)).filter(|_| self.masked & bit(input) == 0)?;
        entry.message()
    }

    /// Whether [`IoApic::take_message`] has an input to check.
    #[inline]
    pub const fn is_pending(&self) -> bool {
        self.pending() != 0
    }

    /// Takes the message of the lowest input that has one. An input that rose sends once; one that is high sends and then waits
    /// for the end.
    pub fn take_message(&mut self) -> Option<Message> {
        loop {
            let pending = self.pending();
            let input = usize::try_from(pending.trailing_zeros()).ok()?;
            let entry = *self.entries.get(input)?;
            let lowest = pending & pending.wrapping_neg();
            match entry.trigger() {
                Trigger::Edge => self.risen &= !lowest,
                Trigger::Level => self.remote_irr |= lowest,
            }
            let message = entry.message();
            if message.is_some() {
                return message;
            }
        }
    }

    const fn pending(&self) -> u32 {
        self.risen | self.high & self.level & !(self.masked | self.remote_irr)
    }

    fn read_register(&self, register: Register) -> u32 {
        match register {
            Register::Id | Register::Arbitration => self.id,
            Register::Version => VERSION,
            Register::Entry(input, half) => {
                let written = self.entries.get(usize::from(input)).map_or(0, |entry| entry.half(half));
                let waits = half == Half::Low && self.remote_irr & bit(input) != 0;
                written | if waits { REMOTE_IRR } else { 0 }
            }
        }
    }

    fn write_register(&mut self, register: Register, value: u32) {
        match register {
            Register::Id => self.id = value & ID_BITS,
            Register::Version | Register::Arbitration => {}
            Register::Entry(input, half) => self.write_entry(input, half, value),
        }
    }

    fn write_entry(&mut self, input: u8, half: Half, value: u32) {
        let Some(entry) = self.entries.get_mut(usize::from(input)) else {
            return;
        };
        let before = *entry;
        let after = before.with_half(half, value);
        *entry = after;
        let bit = bit(input);
        if after.contains(Entry::MASKED) {
            self.masked |= bit;
        } else {
            self.masked &= !bit;
        }
        match after.trigger() {
            Trigger::Edge => {
                self.level &= !bit;
                self.remote_irr &= !bit;
            }
            Trigger::Level => {
                self.level |= bit;
                self.risen &= !bit;
            }
        }
        if before.level_vector() != after.level_vector() {
            self.collect_level_vectors();
        }
    }

    fn collect_level_vectors(&mut self) {
        self.level_vectors = [0; 4];
        for vector in self.entries.iter().filter_map(|entry| entry.level_vector()) {
            self.level_vectors[usize::from(vector >> 6)] |= 1 << (vector & 63);
        }
    }
}
