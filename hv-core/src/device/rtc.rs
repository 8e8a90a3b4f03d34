//! The clock and battery-backed memory of a PC, ports 0x70 and 0x71.
//!
//! Motorola MC146818A data sheet, 1984, with the century at 0x32 and the memory sizes where a PC's firmware puts them.
//! Time is counted by the crystal's 32,768 Hz from the moment the clock was made.

pub mod calendar;
mod fields;
#[cfg(test)]
mod tests;

use crate::base::time::{Frequency, Tsc};
use crate::device::backlog::Backlog;
use crate::device::rate::Rate;
use bitflags::bitflags;
use calendar::{Date, LAST_S, UNIX_EPOCH_S};
use fields::{Fields, Format};

/// The index port; the data port follows.
pub const INDEX: u16 = 0x70;
/// The data port.
pub const DATA: u16 = 0x71;

const CRYSTAL_HZ: u32 = 32_768;
/// log2 of [`CRYSTAL_HZ`].
const SECOND_BITS: u32 = 15;
/// The update flag stands for the last 244 µs of a second: 8 clocks.
const UPDATE_CLOCKS: u64 = 8;

const REGISTER_A: u8 = 0x0A;
const REGISTER_B: u8 = 0x0B;
const REGISTER_C: u8 = 0x0C;
const REGISTER_D: u8 = 0x0D;
/// The register with the century.
pub const CENTURY: u8 = 0x32;
const A_UPDATING: u8 = 1 << 7;
const A_RATE: u8 = 0x0F;
/// The crystal's divider runs, 1,024 Hz.
const A_DEFAULT: u8 = 0x26;
const D_VALID: u8 = 1 << 7;
const C_ANY: u8 = 1 << 7;

bitflags! {
    /// Register B.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Control: u8 {
        const SUMMER_TIME = 1 << 0;
        const HOURS_24 = 1 << 1;
        const BINARY = 1 << 2;
        const SQUARE_WAVE = 1 << 3;
        const UPDATE_INTERRUPT = 1 << 4;
        const ALARM_INTERRUPT = 1 << 5;
        const PERIODIC_INTERRUPT = 1 << 6;
        /// Time stands still and is set.
        const SET = 1 << 7;
    }
}

/// The interrupt bits of register B, which are the flags of register C.
const SOURCES: Control =
    Control::UPDATE_INTERRUPT.union(Control::ALARM_INTERRUPT).union(Control::PERIODIC_INTERRUPT);

/// Those that come again and again.
const PERIODIC: [Control; 2] = [Control::PERIODIC_INTERRUPT, Control::UPDATE_INTERRUPT];

/// Clock and memory.
#[derive(Clone, Debug)]
pub struct Rtc {
    rate: Rate,
    origin: Tsc,
    /// Seconds from the year 0 to `origin`; moved when a guest sets the time, even before the year 0.
    base_s: i64,
    index: u8,
    register_a: u8,
    control: Control,
    /// Flags of register C.
    flags: Control,
    /// Flags are collected up to this clock.
    collected: u64,
    /// Interrupts that the guest was not told of yet: periodic ones, and those of updates.
    backlogs: [Backlog; 2],
    next_interrupt: Tsc,
    /// What SET holds still.
    held: Option<Fields>,
    memory: [u8; 128],
}

impl Rtc {
    /// Returns the clock as firmware leaves it: BCD, 24 hours, no interrupts. `unix_s`: seconds since 1970 UTC at `now`; `memory_mib`: RAM from 0,
    /// for the size fields.
    pub fn new(tsc: Frequency, now: Tsc, unix_s: u64, memory_mib: u32) -> Self {
        Self {
            rate: Rate::of_hz_per(tsc, CRYSTAL_HZ, 1),
            origin: now,
            base_s: unix_s.saturating_add(UNIX_EPOCH_S).min(LAST_S).cast_signed(),
            index: 0,
            register_a: A_DEFAULT,
            control: Control::HOURS_24,
            flags: Control::empty(),
            collected: 0,
            backlogs: [Backlog::EMPTY; 2],
            next_interrupt: Tsc::NEVER,
            held: None,
            memory: memory_sizes(memory_mib),
        }
    }

    /// When the interrupt line rises by itself; a moment past when [`Rtc::expire`] was not called since.
    #[inline]
    pub const fn next_interrupt(&self) -> Tsc {
        self.next_interrupt
    }

    /// Tells the clock the time: the line rises if an interrupt is due.
    pub fn expire(&mut self, now: Tsc) {
        if now >= self.next_interrupt && self.next_interrupt != Tsc::NEVER {
            self.collect(now);
        }
    }

    /// The level of the interrupt line: up until register C is read.
    pub fn irq_level(&self) -> bool {
        self.flags.intersects(self.control & SOURCES)
    }

    /// Writes the index port; its bit 7 would mask NMI.
    pub const fn select(&mut self, index: u8) {
        self.index = index & 0x7F;
    }

    /// Reads the data port; reading register C clears it.
    pub fn read(&mut self, now: Tsc) -> u8 {
        let clock = self.clock(now);
        match self.index {
            REGISTER_A => self.register_a | if self.is_updating(clock) { A_UPDATING } else { 0 },
            REGISTER_B => self.control.bits(),
            REGISTER_C => {
                self.collect(now);
                let any = if self.irq_level() { C_ANY } else { 0 };
                let told = self.flags.bits() | any;
                self.flags = Control::empty();
                self.arm(clock);
                told
            }
            REGISTER_D => D_VALID,
            index => self.shown(clock).get(index).unwrap_or(self.memory[usize::from(index & 0x7F)]),
        }
    }

    /// Writes the data port.
    pub fn write(&mut self, value: u8, now: Tsc) {
        self.collect(now);
        let clock = self.clock(now);
        match self.index {
            REGISTER_A => {
                self.register_a = value & !A_UPDATING;
                let [periodic, _] = &mut self.backlogs;
                let _ = periodic.forget();
            }
            REGISTER_B => self.set_control(Control::from_bits_truncate(value), clock),
            REGISTER_C | REGISTER_D => {}
            index => self.write_time(index, value, clock),
        }
        self.arm(clock);
    }

    fn write_time(&mut self, index: u8, value: u8, clock: u64) {
        let mut shown = self.shown(clock);
        if !shown.set(index, value) {
            self.memory[usize::from(index & 0x7F)] = value;
        } else if self.control.contains(Control::SET) {
            self.held = Some(shown);
        } else {
            self.set_time(&shown, clock);
        }
    }

    const fn clock(&self, now: Tsc) -> u64 {
        self.rate.clocks(now.since(self.origin))
    }

    /// Seconds from the year 0.
    fn second(&self, clock: u64) -> u64 {
        let second = self.base_s.saturating_add_unsigned(clock >> SECOND_BITS);
        u64::try_from(second).unwrap_or(0).min(LAST_S)
    }

    fn format(&self) -> Format {
        Format {
            is_binary: self.control.contains(Control::BINARY),
            has_24_hours: self.control.contains(Control::HOURS_24),
        }
    }

    fn shown(&self, clock: u64) -> Fields {
        self.held.unwrap_or_else(|| Fields::of(&Date::of(self.second(clock)), self.format()))
    }

    fn set_time(&mut self, fields: &Fields, clock: u64) {
        let wanted = fields.date(self.format()).seconds().min(LAST_S).cast_signed();
        self.base_s = wanted.saturating_sub_unsigned(clock >> SECOND_BITS);
    }

    fn is_updating(&self, clock: u64) -> bool {
        let in_second = clock & ((1 << SECOND_BITS) - 1);
        self.held.is_none() && in_second >= (1 << SECOND_BITS) - UPDATE_CLOCKS
    }

    /// SET takes a copy of the time, which runs on from there when SET falls. The data mode is the new one both times.
    fn set_control(&mut self, control: Control, clock: u64) {
        let was_set = self.control.contains(Control::SET);
        for (source, backlog) in PERIODIC.into_iter().zip(&mut self.backlogs) {
            if !control.contains(source) || control.contains(Control::SET) {
                let _ = backlog.forget();
            }
        }
        self.control = control;
        if control.contains(Control::SET) {
            self.control.remove(Control::UPDATE_INTERRUPT);
            if !was_set {
                self.held = Some(self.shown(clock));
            }
        } else if let Some(held) = self.held.take() {
            self.set_time(&held, clock);
        }
    }

    /// Clocks between periodic interrupts (table 5); rates 1 and 2 are those of 8 and 9.
    const fn period_clocks(&self) -> Option<u64> {
        match self.register_a & A_RATE {
            0 => None,
            rate @ (1 | 2) => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    /// The first clock after `after` at which `source` happens.
    fn next(&self, source: Control, after: u64) -> Option<u64> {
        let second = after >> SECOND_BITS;
        if source == Control::PERIODIC_INTERRUPT {
            let period = self.period_clocks()?;
            return Some((after / period).saturating_add(1).saturating_mul(period));
        }
        if self.held.is_some() {
            return None;
        }
        let in_seconds = if source == Control::UPDATE_INTERRUPT {
            1
        } else {
            // The alarm's registers are memory that the clock compares with.
            let [_, second, _, minute, _, hour, ..] = self.memory;
            self.format().seconds_to_alarm([second, minute, hour], self.second(after))?
        };
        Some(second.saturating_add(in_seconds).saturating_mul(1 << SECOND_BITS))
    }

    /// Brings the flags up to now. What the guest wants to be interrupted for again and again, it is told as often as it
    /// happened.
    fn collect(&mut self, now: Tsc) {
        let clock = self.clock(now);
        for source in SOURCES.iter() {
            let happened = self.next(source, self.collected).is_some_and(|due| due <= clock);
            let Some(n) =
                PERIODIC.iter().position(|periodic| source == *periodic && self.control.contains(source))
            else {
                self.flags.set(source, happened || self.flags.contains(source));
                continue;
            };
            let period = self.clocks_between(source);
            let Some(backlog) = self.backlogs.get_mut(n) else { continue };
            if happened {
                backlog.add((clock / period).saturating_sub(self.collected / period));
            }
            if !self.flags.contains(source) && backlog.take(now, self.rate.ticks(period)) {
                self.flags |= source;
            }
        }
        self.collected = self.collected.max(clock);
        self.arm(clock);
    }

    /// Clocks from one interrupt of a periodic source to the next; 1 where it has none.
    fn clocks_between(&self, source: Control) -> u64 {
        if source == Control::PERIODIC_INTERRUPT {
            self.period_clocks().unwrap_or(1)
        } else {
            1 << SECOND_BITS
        }
    }

    /// Interrupts that the guest will not be told of, since this was asked last.
    pub const fn take_lost(&mut self) -> u64 {
        let [periodic, update] = &mut self.backlogs;
        periodic.take_lost().saturating_add(update.take_lost())
    }

    /// Looks for the next rise of the line: none while it is up.
    fn arm(&mut self, clock: u64) {
        self.next_interrupt = Tsc::NEVER;
        if self.irq_level() {
            return;
        }
        for source in (self.control & SOURCES).iter() {
            if let Some(due) = self.next(source, clock) {
                self.next_interrupt = self.next_interrupt.min(self.origin + self.rate.ticks(due));
            }
        }
        for backlog in &self.backlogs {
            self.next_interrupt = self.next_interrupt.min(backlog.next());
        }
    }
}

/// The memory of a PC whose firmware has counted the RAM: the fields of SeaBIOS and QEMU.
fn memory_sizes(memory_mib: u32) -> [u8; 128] {
    const BASE_KIB: u16 = 640;
    let mut memory = [0; 128];
    let mut put = |at: usize, size: u64| {
        let [low, high] = u16::try_from(size).unwrap_or(u16::MAX).to_le_bytes();
        memory[at] = low;
        memory[at + 1] = high;
    };
    let mib = u64::from(memory_mib);
    put(0x15, u64::from(BASE_KIB));
    put(0x17, mib.saturating_sub(1) * 1024);
    put(0x30, mib.saturating_sub(1) * 1024);
    put(0x34, mib.saturating_sub(16) * 16);
    memory
}
