//! One guest on one CPU: what competes for it.

use super::clock::{Clock, Rate, Virtual};
use super::tree::Tree;
use crate::base::time::Ticks;
use alloc::vec::Vec;

/// Where an entity is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The index is free.
    Free,
    /// None of its vCPUs wants the CPU.
    Asleep,
    /// It waits, ahead of the clock: in the trees by start and by deadline of those that are early.
    Early,
    /// It waits and is eligible: in the tree by deadline.
    Eligible,
    /// It pays for what runs now; in no tree.
    Paying,
    /// It yielded and lets others go first until the next decision; in no tree.
    Aside,
    /// It was removed; its weight stays admitted until the clock has passed its debt.
    Leaving,
}

/// One entity.
#[derive(Clone, Debug)]
pub struct Entity {
    /// Where it is.
    pub place: Place,
    /// Its weight.
    pub rate: Rate,
    /// S while it waits and v while it runs: its service divided by its weight, raised at wake to the clock.
    pub start: Virtual,
    /// End of its request in virtual time.
    pub deadline: Virtual,
    /// How far its deadlines are postponed, because the clock went on while it stood aside.
    pub postponed: u128,
    /// What is left of its request.
    pub left: Ticks,
    /// Its waiting vCPUs, by [`super::vcpu::Vcpu::key`].
    pub waiting: Tree,
    /// Slot of each leaf of `waiting`.
    pub members: Vec<u16>,
    /// Service of the sibling picked last: where a vCPU that wakes joins.
    pub order_floor: Ticks,
}

impl Entity {
    /// An entity without vCPUs.
    pub fn new(weight: u32, start: Virtual) -> Self {
        Self {
            place: Place::Asleep,
            rate: Rate::of(weight),
            start,
            deadline: start,
            postponed: 0,
            left: Ticks(0),
            waiting: Tree::new(),
            members: Vec::new(),
            order_floor: Ticks(0),
        }
    }

    /// Issues a request of `length` from where it stands.
    ///
    /// One that is behind the clock may not move its deadline forward by asking again for less: it would be served
    /// in a burst, before others whose requests the clock has promised since. It keeps the old deadline, and with it
    /// a request as long as it takes to get there.
    #[inline]
    pub fn issue(&mut self, length: Ticks, clock: &Clock) {
        let span = self.rate.span(length);
        if self.start >= clock.now {
            self.postponed = 0;
            self.deadline = Virtual(self.start.0.wrapping_add(span));
            self.left = length;
            return;
        }
        let from = self.start.0.wrapping_add(self.postponed);
        let natural = Virtual(from.wrapping_add(span));
        if natural >= self.deadline {
            self.deadline = natural;
            self.left = length;
        } else {
            self.left = self.rate.service(self.deadline.0.saturating_sub(from)).max(length);
        }
    }

    /// Takes `service` off its account.
    #[inline]
    pub const fn charge(&mut self, service: Ticks) {
        self.start.0 = self.start.0.wrapping_add(self.rate.span(service));
        self.left = Ticks(self.left.0.saturating_sub(service.0));
    }
}
