//! An entity: one guest on one CPU, as it competes for that CPU.

use super::NONE;
use super::clock::{FARTHEST, MAX_STEP, Rate};
use super::tree::{Tree, leaf_of};
use crate::base::time::Ticks;

/// Upper limit of the vCPUs of one guest on one CPU; a power of two.
pub const MAX_MEMBERS: usize = pv_abi::MAX_VCPUS;

/// An entity's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Place {
    /// The index is free.
    Free,
    /// None of the entity's vCPUs wants the CPU.
    Asleep,
    /// The entity waits as a candidate; it is in the tree by deadline.
    Candidate,
    /// The entity waits and was found ahead of the clock; it is in the tree by start, until the clock has reached it.
    Early,
    /// The entity pays for the present turn; it is in no tree.
    Paying,
    /// The entity yielded and lets others go first until the next decision; it is in no tree.
    Aside,
    /// The entity was removed; its weight stays admitted until the clock has passed its debt.
    Leaving,
}

/// One entity.
#[derive(Clone, Debug)]
#[repr(align(128))]
pub struct Entity {
    /// The entity's place.
    pub place: Place,
    /// The entity's weight, as the rate of its virtual time.
    pub rate: Rate,
    /// S while it waits and v while it runs: its service divided by its weight, raised at wake to the clock.
    pub start: u64,
    /// End of the entity's request in virtual time.
    pub deadline: u64,
    /// Virtual time by which the entity's deadlines are postponed, because the clock went on while the entity stood aside.
    pub postponed: u64,
    /// The rest of the entity's request.
    pub left: Ticks,
    /// Debt that `start` cannot hold.
    pub beyond: Ticks,
    /// The entity's waiting vCPUs, by [`super::vcpu::Vcpu::word`].
    pub waiting: Tree<{ 2 * MAX_MEMBERS }>,
    /// Slot of each leaf of `waiting`, [`NONE`] where there never was one.
    pub members: [u16; MAX_MEMBERS],
    /// Service of the vCPU that was picked last: a vCPU that wakes joins its siblings there.
    pub order_floor: Ticks,
    /// The number of the removal that made the entity leave.
    #[cfg(any(test, feature = "testkit"))]
    pub removal: u64,
    /// Number of the entity's vCPUs in this queue.
    pub attached: u16,
}

impl Entity {
    /// An entity without vCPUs that starts at the clock.
    pub fn new(weight: u32, clock: u64) -> Self {
        Self {
            place: Place::Asleep,
            rate: Rate::of(weight),
            start: clock,
            deadline: clock,
            postponed: 0,
            left: Ticks(0),
            beyond: Ticks(0),
            waiting: Tree::new(),
            members: [NONE; MAX_MEMBERS],
            order_floor: Ticks(0),
            #[cfg(any(test, feature = "testkit"))]
            removal: 0,
            attached: 0,
        }
    }

    /// Competes anew, at the clock and without debt.
    pub fn admit(&mut self, weight: u32, clock: u64) {
        self.place = Place::Asleep;
        self.rate = Rate::of(weight);
        (self.start, self.deadline, self.postponed) = (clock, clock, 0);
        (self.left, self.beyond) = (Ticks(0), Ticks(0));
    }

    /// Owes at least this much service from now on.
    pub fn owe(&mut self, debt: Ticks, clock: u64) {
        let before = self.debt(clock).0;
        if debt.0 > before {
            self.start = self.start.max(clock);
            self.charge_beside_request(Ticks(debt.0 - before));
        }
    }

    /// Goes on under another weight. The service that the entity is owed or owes stays the same, and so does the rest of its request.
    pub fn change_rate(&mut self, rate: Rate, clock: u64) {
        let old = core::mem::replace(&mut self.rate, rate);
        let convert = |span: u64| rate.span(Ticks(old.service(span).0.min(MAX_STEP)));
        let request = convert(self.deadline.saturating_sub(self.start));
        self.postponed = convert(self.postponed);
        if self.start > clock {
            let owes = old.service(self.start - clock);
            self.start = clock;
            self.charge_beside_request(owes);
        } else {
            self.start = clock - convert(clock - self.start).min(clock);
        }
        self.deadline = self.start.wrapping_add(request);
    }

    /// The slot of the vCPU that a word of `waiting` stands for.
    #[inline]
    pub const fn member(&self, word: u64) -> u16 {
        self.members[leaf_of(word) as usize & (MAX_MEMBERS - 1)]
    }

    /// Issues a request of `length` from where it stands.
    #[inline]
    pub const fn issue(&mut self, length: Ticks, clock: u64) {
        if self.start < clock {
            return self.issue_behind(length);
        }
        self.postponed = 0;
        self.deadline = self.start.wrapping_add(self.rate.span(length));
        self.left = length;
    }

    /// Issues a request although it is behind the clock.
    ///
    /// It may not move its deadline forward by asking again for less: it would be served in a burst, before others whose
    /// requests the clock has promised since. It keeps the old deadline, and with it a request as long as it takes to get there.
    const fn issue_behind(&mut self, length: Ticks) {
        let from = self.start.wrapping_add(self.postponed);
        let natural = from.wrapping_add(self.rate.span(length));
        self.left = length;
        if natural >= self.deadline {
            self.deadline = natural;
        } else {
            let rest = self.rate.service(self.deadline - from);
            if rest.0 > length.0 {
                self.left = rest;
            }
        }
    }

    /// Length of its request in virtual time, with what its deadline is postponed by.
    #[inline]
    pub const fn span(&self) -> u64 {
        self.deadline.wrapping_sub(self.start)
    }

    /// Takes `service`, at most [`MAX_STEP`], off its account.
    #[inline]
    pub fn charge(&mut self, service: Ticks) {
        let start = self.start.wrapping_add(self.rate.span(service));
        if start > FARTHEST {
            self.beyond.0 = self.beyond.0.saturating_add(service.0);
        } else {
            self.start = start;
        }
        self.left.0 = self.left.0.saturating_sub(service.0);
    }

    /// Takes any `service` off its account, in steps.
    pub fn charge_any(&mut self, service: Ticks) {
        let step = service.0.min(MAX_STEP);
        self.charge(Ticks(step));
        if service.0 > step {
            self.beyond.0 = self.beyond.0.saturating_add(service.0 - step);
        }
    }

    /// Moves with the clock's base, and takes in what was beyond.
    pub fn move_back(&mut self, back: u64) {
        self.start = self.start.saturating_sub(back);
        self.deadline = self.deadline.saturating_sub(back).max(self.start);
        let beyond = core::mem::take(&mut self.beyond);
        if beyond.0 != 0 {
            self.charge_beside_request(beyond);
        }
    }

    /// Charges service that is no part of the current request.
    fn charge_beside_request(&mut self, service: Ticks) {
        let left = self.left;
        self.charge_any(service);
        self.left = left;
    }

    /// Service that the entity has ahead of the clock.
    pub const fn debt(&self, clock: u64) -> Ticks {
        let held = self.rate.service(self.start.saturating_sub(clock));
        Ticks(held.0.saturating_add(self.beyond.0))
    }
}
