//! Ticks of a periodic source that are due but not yet delivered to its guest.
//!
//! A vCPU that is off CPU takes no interrupts, and a controller keeps one request per line. The backlog delivers the missed ticks
//! later, one after the other, as KVM does for the 8254 (`kvm_pit_reinject`) and QEMU for the clock
//! (`lost_tick_policy=slew`): a kernel that counts ticks keeps its time by them. After a long stop, ticks beyond [`MOST`] are
//! dropped, and counted.

use crate::base::time::{Ticks, Tsc};

/// Most ticks in the backlog: a quarter of a second at 1,000 Hz.
pub const MOST: u32 = 256;

/// Limit of the rate of late ticks, as a multiple of the source's own rate.
const SPEED: u64 = 16;

/// Ticks that are due but not delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backlog {
    due: u32,
    /// Earliest moment of the next delivery.
    earliest: Tsc,
    lost: u64,
}

impl Backlog {
    /// No tick is due.
    pub const EMPTY: Self = Self { due: 0, earliest: Tsc(0), lost: 0 };

    /// Adds due ticks; those beyond [`MOST`] are lost.
    pub fn add(&mut self, ticks: u64) {
        let due = u64::from(self.due).saturating_add(ticks);
        let kept = u32::try_from(due).unwrap_or(u32::MAX).min(MOST);
        self.lost = self.lost.saturating_add(due - u64::from(kept));
        self.due = kept;
    }

    /// Returns the moment at which the next tick may be delivered; [`Tsc::NEVER`] if none is due.
    #[inline]
    pub const fn next(&self) -> Tsc {
        if self.due == 0 { Tsc::NEVER } else { self.earliest }
    }

    /// Whether a tick is to be delivered now.
    #[inline]
    pub fn is_due(&self, now: Tsc) -> bool {
        self.next() <= now && self.next() != Tsc::NEVER
    }

    /// Takes one tick, if one is to be delivered now, of a source with this period.
    pub fn take(&mut self, now: Tsc, period: Ticks) -> bool {
        let takes = self.is_due(now);
        if takes {
            self.due -= 1;
            self.earliest = now + Ticks((period.0 / SPEED).max(1));
        }
        takes
    }

    /// Delays the next tick to `until`: the guest has not taken the last one yet, so another one would be merged.
    pub const fn put_off(&mut self, until: Tsc) {
        self.earliest = until;
    }

    /// Drops the ticks without counting them as lost: the guest has masked their interrupt.
    pub const fn discard(&mut self) {
        *self = Self::EMPTY;
    }

    /// Drops the ticks of a source that was stopped or set anew. Returns whether any was due.
    #[inline]
    pub const fn forget(&mut self) -> bool {
        self.earliest = Tsc(0);
        core::mem::replace(&mut self.due, 0) != 0
    }

    /// Returns the ticks lost since the last call.
    pub const fn take_lost(&mut self) -> u64 {
        core::mem::replace(&mut self.lost, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_wait_up_to_a_bound_and_the_rest_are_counted() {
        let mut backlog = Backlog::EMPTY;
        assert_eq!(backlog.next(), Tsc::NEVER);
        backlog.add(3);
        backlog.add(u64::from(MOST));
        assert_eq!(backlog.take_lost(), 3);
        backlog.add(u64::MAX);
        assert_eq!(backlog.take_lost(), u64::MAX - u64::from(MOST));
        let (period, mut now, mut taken) = (Ticks(1600), Tsc(10), 0);
        while backlog.next() != Tsc::NEVER {
            now = now.max(backlog.next());
            assert!(backlog.take(now, period));
            assert!(!backlog.take(now, period), "not two at once");
            taken += 1;
        }
        assert_eq!((taken, now), (MOST, Tsc(10) + Ticks(100 * u64::from(MOST - 1))));
        backlog.add(2);
        assert!(backlog.forget() && !backlog.forget());
        assert_eq!(backlog.take_lost(), 0);
    }
}
