//! The APIC timer: one-shot, periodic, TSC-deadline. SDM vol 3A §11.5.4.
//!
//! A late periodic timer keeps its grid, and its missed expiries are delivered later ([`Backlog`]).

use crate::base::time::{Ticks, Tsc};
use crate::device::backlog::Backlog;
use crate::device::rate::Rate;

/// The timer's mode: it determines the start of the count, and the effect of its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    OneShot,
    Periodic,
    Deadline,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    rate: Rate,
    mode: Mode,
    /// The divide configuration register as written.
    pub divide: u32,
    /// log2 of the divisor.
    shift: u32,
    /// Ticks per count, if that is a whole number; else 0.
    whole_ticks: u32,
    pub initial: u32,
    /// The moment from which bus clocks are counted.
    origin: Tsc,
    /// The next expiry, in bus clocks from `origin`.
    due_clocks: u64,
    /// The moment of the next check: the next expiry, or the earlier delivery of a missed one; `NEVER` if unarmed.
    pub expiry: Tsc,
    /// Expiries of a periodic timer that are not delivered to the guest yet.
    pub backlog: Backlog,
}

/// Result of a check of the timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expiry {
    /// The timer has not expired.
    None,
    /// The timer expired, once.
    Once,
    /// Expiries of a periodic timer wait to be told, and [`Timer::take_tick`] says when.
    Periodic,
}

/// Writable bits of the divide configuration register.
pub(super) const DIVIDE_BITS: u64 = 0b1011;

impl Timer {
    pub(super) const fn new(rate: Rate) -> Self {
        let mut timer = Self {
            rate,
            mode: Mode::OneShot,
            divide: 0,
            shift: 0,
            whole_ticks: 0,
            initial: 0,
            origin: Tsc(0),
            due_clocks: 0,
            expiry: Tsc::NEVER,
            backlog: Backlog::EMPTY,
        };
        timer.divide_by(0);
        timer
    }

    /// Takes in the divide configuration register: 0b000 is 2, 0b110 is 128, 0b111 is 1 (SDM figure 11-10).
    const fn divide_by(&mut self, divide: u32) {
        self.divide = divide;
        self.shift = ((divide & 3 | divide >> 1 & 4) + 1) & 7;
        self.whole_ticks = match self.rate.whole_ticks() {
            Some(ticks) if ticks.leading_zeros() >= self.shift => ticks << self.shift,
            _ => 0,
        };
    }

    /// Bus clocks from one expiry to the next.
    const fn period_clocks(&self) -> u64 {
        (self.initial as u64) << self.shift
    }

    /// Sets the mode. A switch to or from TSC-deadline disarms the timer; between the other two modes the count continues.
    pub(super) fn set_mode(&mut self, mode: Mode) {
        if (mode == Mode::Deadline) != (self.mode == Mode::Deadline) {
            self.initial = 0;
            self.expiry = Tsc::NEVER;
        }
        if mode != Mode::Periodic {
            let _ = self.backlog.forget();
            if self.mode == Mode::Periodic && self.expiry != Tsc::NEVER {
                self.arm();
            }
        }
        self.mode = mode;
    }

    /// Starts counting; 0 stops. Ignored in TSC-deadline mode.
    #[inline]
    pub(super) fn set_initial(&mut self, count: u32, now: Tsc) {
        if self.mode == Mode::Deadline {
            return;
        }
        self.initial = count;
        self.start(count, now);
    }

    #[inline(always)] // the hot half of a write to the initial count; the other caller is rare
    fn start(&mut self, count: u32, now: Tsc) {
        self.origin = now;
        let _ = self.backlog.forget();
        self.due_clocks = u64::from(count) << self.shift;
        let length = if self.whole_ticks != 0 {
            Ticks(u64::from(count) * u64::from(self.whole_ticks))
        } else {
            self.uneven_length()
        };
        self.expiry = if count == 0 { Tsc::NEVER } else { now + length };
    }

    #[inline(never)]
    fn uneven_length(&self) -> Ticks {
        self.rate.ticks(self.due_clocks)
    }

    /// Changes the divisor; a running count continues from its present value.
    #[inline(never)]
    pub(super) fn set_divide(&mut self, divide: u32, now: Tsc) {
        if divide == self.divide {
            return;
        }
        let count = self.current(now);
        self.divide_by(divide);
        if self.expiry != Tsc::NEVER && self.mode != Mode::Deadline {
            // A count that has run out and is not yet delivered stays due.
            self.start(count.max(1), now);
        }
    }

    /// IA32_TSC_DEADLINE: 0 disarms, a past moment fires at once. Ignored outside TSC-deadline mode.
    #[inline]
    pub(super) fn set_deadline(&mut self, deadline: u64) {
        if self.mode == Mode::Deadline {
            self.expiry = if deadline == 0 { Tsc::NEVER } else { Tsc(deadline) };
        }
    }

    /// Returns the value of IA32_TSC_DEADLINE: 0 if unarmed.
    pub(super) fn deadline(&self) -> u64 {
        if self.mode == Mode::Deadline && self.expiry != Tsc::NEVER { self.expiry.0 } else { 0 }
    }

    /// The current count: 0 when stopped, at least 1 before the expiry.
    pub(super) fn current(&self, now: Tsc) -> u32 {
        if self.mode == Mode::Deadline || self.expiry == Tsc::NEVER {
            return 0;
        }
        let elapsed = self.rate.clocks(now.since(self.origin));
        let left = match (self.due_clocks.checked_sub(elapsed), self.mode) {
            (Some(left), _) if left > 0 => left,
            (_, Mode::Periodic) => {
                let period = self.period_clocks().max(1);
                period - elapsed.saturating_sub(self.due_clocks) % period
            }
            (_, Mode::OneShot | Mode::Deadline) => 0,
        };
        u32::try_from(left.div_ceil(1 << self.shift)).map_or(self.initial, |left| left.min(self.initial))
    }

    /// Whether an expiry has come; what comes next is armed.
    #[inline]
    pub(super) fn take_expiry(&mut self, now: Tsc) -> Expiry {
        if now < self.expiry || self.expiry == Tsc::NEVER {
            return Expiry::None;
        }
        match self.mode {
            Mode::OneShot | Mode::Deadline => {
                self.expiry = Tsc::NEVER;
                Expiry::Once
            }
            Mode::Periodic => {
                self.go_on(now);
                Expiry::Periodic
            }
        }
    }

    /// Expiries that have passed are due, and the next one is on the grid.
    #[inline(never)]
    fn go_on(&mut self, now: Tsc) {
        let period = self.period_clocks().max(1);
        if let Some(late) = self.rate.clocks(now.since(self.origin)).checked_sub(self.due_clocks) {
            let periods = (late / period).saturating_add(1);
            self.backlog.add(periods);
            self.due_clocks = self.due_clocks.saturating_add(periods.saturating_mul(period));
        }
        self.arm();
    }

    fn grid(&self) -> Tsc {
        self.origin + self.rate.ticks(self.due_clocks)
    }

    fn arm(&mut self) {
        self.expiry = self.grid().min(self.backlog.next());
    }

    /// Takes one expiry of a periodic timer, if one is to be delivered now.
    pub(super) fn take_tick(&mut self, now: Tsc) -> bool {
        let takes = self.backlog.take(now, self.rate.ticks(self.period_clocks()));
        self.arm();
        takes
    }

    /// The guest has not taken the last one yet.
    pub(super) fn put_off_ticks(&mut self) {
        self.backlog.put_off(self.grid());
        self.arm();
    }

    /// Nobody listens.
    pub(super) fn discard_ticks(&mut self) {
        self.backlog.discard();
        self.arm();
    }
}
