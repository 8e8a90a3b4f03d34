//! The 8254 interval timer of a PC, ports 0x40 … 0x43, and port 0x61 with the gate and output of channel 2.
//!
//! Intel 8254 data sheet, order number 231164-005. All values are computed from the moment of the access; the model does not
//! tick. Channel 0 drives interrupt 0, channel 1 once timed memory refresh, channel 2 drives the speaker and serves calibration.

mod channel;
#[cfg(test)]
mod tests;

use crate::base::time::{Frequency, Tsc};
use crate::device::acpi_pm::PM_TIMER_HZ;
use crate::device::backlog::Backlog;
use crate::device::rate::Rate;
use channel::Channel;

/// Port of channel 0.
pub const CHANNEL_0: u16 = 0x40;
/// Port of the control word.
pub const CONTROL: u16 = 0x43;
/// System control port B.
pub const SYSTEM_CONTROL_B: u16 = 0x61;

/// Whether a port is one of the 8254's.
#[inline]
pub const fn owns(port: u16) -> bool {
    matches!(port, CHANNEL_0..=CONTROL | SYSTEM_CONTROL_B)
}

const GATE_2: u8 = 1 << 0;
/// The writable bits of port 0x61: gate 2, speaker, and two check enables.
const WRITABLE: u8 = 0x0F;
const REFRESH: u8 = 1 << 4;
const OUTPUT_2: u8 = 1 << 5;
/// Clocks between two refresh cycles: 15 µs.
const REFRESH_CLOCKS: u64 = 18;
const READ_BACK: u8 = 3;
const READ_BACK_NOT_COUNT: u8 = 1 << 5;
const READ_BACK_NOT_STATUS: u8 = 1 << 4;

/// The timer.
#[derive(Clone, Debug)]
pub struct Pit {
    rate: Rate,
    origin: Tsc,
    channels: [Channel; 3],
    control_b: u8,
    /// Moment at which the output of channel 0 rises next, and the same in clocks.
    next_rise: Tsc,
    rise_clock: u64,
    /// Rises of channel 0's output that are not delivered to the guest yet.
    pub backlog: Backlog,
}

impl Pit {
    /// Returns the timer with nothing programmed.
    pub fn new(tsc: Frequency, now: Tsc) -> Self {
        Self {
            // The 8254 runs at a third of the PM timer's clock, as on real boards: 14.31818 MHz / 12.
            rate: Rate::of_hz_per(tsc, PM_TIMER_HZ, 3),
            origin: now,
            channels: [Channel::new(true), Channel::new(true), Channel::new(false)],
            control_b: 0,
            next_rise: Tsc::NEVER,
            rise_clock: 0,
            backlog: Backlog::EMPTY,
        }
    }

    /// Returns the moment of the next delivery of a rise of channel 0's output; a past moment if the delivery is overdue.
    #[inline]
    pub fn next_irq0(&self) -> Tsc {
        self.next_rise.min(self.backlog.next())
    }

    /// Advances the timer to `now`: rises of channel 0's output up to then become due. Returns whether one is to be delivered now.
    pub fn expire(&mut self, now: Tsc) -> bool {
        if now >= self.next_rise && self.next_rise != Tsc::NEVER {
            let [timer, _, _] = &self.channels;
            let late = self.clock(now).saturating_sub(self.rise_clock);
            let more = timer.period().map_or(0, |period| late / period);
            self.backlog.add(more.saturating_add(1));
            self.arm(now);
        }
        self.backlog.is_due(now)
    }

    /// Takes one rise from the backlog, if one is to be delivered now.
    pub fn take_tick(&mut self, now: Tsc) -> bool {
        let [timer, _, _] = &self.channels;
        self.backlog.take(now, self.rate.ticks(timer.period().unwrap_or(0)))
    }

    /// Delays the backlog to the next rise: the guest has not taken the last one yet. If no rise follows, drops the backlog, which merges with
    /// that one.
    pub fn put_off_ticks(&mut self) {
        if self.next_rise == Tsc::NEVER {
            let _ = self.backlog.forget();
        } else {
            self.backlog.put_off(self.next_rise);
        }
    }

    /// Reads port 0x40 … 0x43; the control port reads all ones.
    pub fn read(&mut self, port: u16, now: Tsc) -> u8 {
        let clock = self.clock(now);
        self.channels.get_mut(usize::from(port & 3)).map_or(0xFF, |channel| channel.read(clock))
    }

    /// Writes port 0x40 … 0x43. Returns whether the write ended a course of channel 0 that had a rise due: the caller delivers it now, or it
    /// is lost.
    pub fn write(&mut self, port: u16, value: u8, now: Tsc) -> bool {
        let _ = self.expire(now);
        let [timer, _, _] = &self.channels;
        let before = timer.course();
        let clock = self.clock(now);
        if let Some(channel) = self.channels.get_mut(usize::from(port & 3)) {
            channel.write(value, clock);
        } else if value >> 6 == READ_BACK {
            for (n, channel) in self.channels.iter_mut().enumerate() {
                if value >> (n + 1) & 1 != 0 {
                    channel.latch(value & READ_BACK_NOT_COUNT == 0, value & READ_BACK_NOT_STATUS == 0, clock);
                }
            }
        } else if let Some(channel) = self.channels.get_mut(usize::from(value >> 6)) {
            channel.control(value, clock);
        }
        let [timer, _, _] = &self.channels;
        if timer.course() == before {
            return false;
        }
        self.arm(now);
        self.backlog.forget()
    }

    /// Reads port 0x61.
    pub fn read_control_b(&self, now: Tsc) -> u8 {
        let clock = self.clock(now);
        let refresh = if (clock / REFRESH_CLOCKS) & 1 != 0 { REFRESH } else { 0 };
        let [_, _, speaker] = &self.channels;
        let output = if speaker.output(clock) { OUTPUT_2 } else { 0 };
        self.control_b | refresh | output
    }

    /// Writes port 0x61.
    pub fn write_control_b(&mut self, value: u8, now: Tsc) {
        let clock = self.clock(now);
        self.control_b = value & WRITABLE;
        let [_, _, speaker] = &mut self.channels;
        speaker.set_gate(value & GATE_2 != 0, clock);
    }

    const fn clock(&self, now: Tsc) -> u64 {
        self.rate.clocks(now.since(self.origin))
    }

    fn arm(&mut self, now: Tsc) {
        let [timer, _, _] = &self.channels;
        let rise = timer.next_rise(self.clock(now));
        self.rise_clock = rise.unwrap_or(u64::MAX);
        self.next_rise = rise.map_or(Tsc::NEVER, |clock| self.origin + self.rate.ticks(clock));
    }
}
