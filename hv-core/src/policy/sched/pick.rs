//! The choice of the next runner, and of the end of its turn.

use super::entity::Place;
use super::place::Front;
use super::tree::{EMPTY, is_before, leaf_of, word};
use super::vcpu::{ORDER_LIMIT, State, Vcpu};
use super::{Law, NONE, RunQueue, Slot, Turn};
use crate::base::time::{Ticks, Tsc};

impl RunQueue {
    /// Charges the runner and chooses the vCPU that has the CPU from now on, which becomes the runner. `None`: idle.
    ///
    /// The caller may call this at any time: a turn that is not over goes on.
    #[inline(always)] // every switch runs this, and both vendors' loops call it
    pub fn pick(&mut self, now: Tsc) -> Option<Slot> {
        if self.turn == Turn::Yielded
            && !self.special
            && !self.is_broken(Law::HandOver)
            && let Some(slot) = self.hand_over(now)
        {
            return Some(slot);
        }
        self.pass(now);
        if self.special {
            self.settle(now);
        }
        if self.turn == Turn::Going && self.runner != NONE && self.goes_on(now) {
            self.set_slice_end(now);
        } else {
            self.switch(now);
        }
        self.current()
    }

    /// Sees to what is left of earlier turns.
    #[cold]
    fn settle(&mut self, now: Tsc) {
        self.return_aside();
        if self.extended_to.is_some_and(|end| now >= end) {
            self.settle_extension(false, now);
        }
    }

    /// Takes the CPU from the runner, if there is one, and gives it to the next vCPU.
    fn switch(&mut self, now: Tsc) {
        let previous = self.runner;
        let yielded = self.turn == Turn::Yielded;
        let donated = self.payer != previous;
        self.put_back(previous, yielded, now);
        let skipped = if yielded { previous } else { NONE };
        let chosen = self.choose(skipped, donated, now);
        let slot = self.take_vcpu(chosen, skipped);
        if skipped != NONE && slot != skipped {
            self.enqueue(skipped);
        }
        self.install(chosen, slot, now);
    }

    /// Whether the runner's turn goes on.
    fn goes_on(&mut self, now: Tsc) -> bool {
        if let Some(end) = self.extended_to {
            return now < end;
        }
        if self.lent_until.is_some_and(|end| now >= end) {
            return false;
        }
        let Some(entity) = self.entities.get(usize::from(self.paying)) else { return false };
        if entity.left.0 == 0 {
            return false;
        }
        if now < self.turn_start + self.params.min_turn {
            return true;
        }
        let own = word(entity.deadline, self.paying);
        self.catch_up();
        !matches!(self.front(own), Front::Eligible(_)) && !self.sibling_is_urgent()
    }

    /// Whether a waiting vCPU of the paying guest has a deadline, and the runner has none or a later one.
    pub(super) fn sibling_is_urgent(&self) -> bool {
        let Some(runner) = self.vcpus.get(usize::from(self.runner)) else { return false };
        let Some(entity) = self.entities.get(usize::from(self.paying)) else { return false };
        let least = entity.waiting.least();
        Vcpu::has_deadline(least) && is_before(least, runner.word()) && self.payer == self.runner
    }

    /// Takes the CPU from the runner. A runner that yielded is not put into its tree yet, so that it is skipped once.
    #[inline]
    fn put_back(&mut self, previous: u16, yielded: bool, now: Tsc) {
        let Some(vcpu) = self.vcpus.get_mut(usize::from(previous)) else { return };
        vcpu.state = State::Waiting;
        vcpu.since = now;
        self.waiting += 1;
        self.runner = NONE;
        if !yielded {
            vcpu.forget_past_deadline(now);
            self.enqueue(previous);
        }
    }

    /// Chooses the eligible entity with the earliest deadline. The entity that paid last competes without being put into a tree first,
    /// and wins ties.
    #[inline]
    fn choose(&mut self, skipped: u16, donated: bool, now: Tsc) -> u16 {
        let lent = self.lent_until.take().is_some();
        let last = self.paying;
        let mut stands = false;
        let mut skip = false;
        if let Some(entity) = self.entities.get(usize::from(last)) {
            let alone = entity.waiting.least() == EMPTY;
            if skipped != NONE && !donated {
                skip = alone;
                self.issue_for(last, skipped);
            } else if alone {
                self.leave_or_hold(last, skipped);
            } else if entity.left.0 == 0 {
                self.issue_for(last, NONE);
            } else {
                stands = !lent;
            }
        }
        self.catch_up();
        let last = core::mem::replace(&mut self.paying, NONE);
        let mut own = EMPTY;
        if let Some(entity) = self.entities.get(usize::from(last)) {
            if stands || self.is_reached(entity.start) {
                own = word(entity.deadline, last);
            } else {
                self.join_trees(last);
            }
        }
        let front = self.front(if skip { EMPTY } else { own });
        if skip && own != EMPTY {
            return self.choose_past(own, front, now);
        }
        let best = match front {
            Front::Eligible(best) => best,
            // Not reached: the clock has caught up with somebody.
            Front::Ahead(first) if own == EMPTY => leaf_of(first),
            Front::Ahead(_) | Front::Nobody => return if own == EMPTY { NONE } else { last },
        };
        self.leave_trees(best);
        if own != EMPTY {
            self.join_trees(last);
        }
        best
    }

    /// Chooses past an eligible entity whose only runnable vCPU yielded.
    ///
    /// Another eligible one runs. If there is none, the first that will be may run now, as far as this leaves it ahead of
    /// its share by no more than one request of its own: what it gets now it waits for later, and more than that nobody
    /// was promised to bear. Otherwise the yield has no effect.
    fn choose_past(&mut self, own: u64, front: Front, now: Tsc) -> u16 {
        let last = leaf_of(own);
        let early = self.early.least();
        let first = match front {
            Front::Eligible(best) if !is_before(own, self.candidates.least()) => {
                self.leave_trees(best);
                self.join_trees(last);
                return best;
            }
            Front::Eligible(best) => word(0, best),
            Front::Ahead(first) => first.min(early),
            Front::Nobody => early,
        };
        let chosen = leaf_of(first);
        let Some(entity) = self.entities.get(usize::from(chosen)).filter(|_| first != EMPTY) else {
            return last;
        };
        if !self.is_reached(entity.start) {
            let bounded = !self.is_broken(Law::BoundLead);
            let ahead = entity.rate.service(entity.start.saturating_sub(self.clock.now)).0;
            let ahead = if bounded { ahead } else { 0 };
            if ahead > entity.left.0 / 2 {
                return last;
            }
            self.lent_until = Some(now + Ticks(entity.left.0 - ahead));
        }
        self.leave_trees(chosen);
        self.aside = last;
        self.aside_since = self.clock.now;
        self.set_place(last, Place::Aside);
        chosen
    }

    /// Brings back the one that stood aside. The clock that passed meanwhile is not held against the others: its
    /// deadlines move by as much. Its start stays.
    #[inline]
    fn return_aside(&mut self) {
        if self.aside == NONE {
            return;
        }
        let index = core::mem::replace(&mut self.aside, NONE);
        let passed =
            if self.is_broken(Law::Postpone) { 0 } else { self.clock.now.saturating_sub(self.aside_since) };
        if let Some(entity) = self.entities.get_mut(usize::from(index)) {
            entity.postponed = entity.postponed.wrapping_add(passed);
            entity.deadline = entity.deadline.wrapping_add(passed);
        }
        self.join_trees(index);
    }

    /// Takes the first vCPU of an entity, or the skipped vCPU if there is no other.
    #[inline]
    fn take_vcpu(&mut self, chosen: u16, skipped: u16) -> u16 {
        let Some(entity) = self.entities.get_mut(usize::from(chosen)) else { return NONE };
        let least = entity.waiting.least();
        if least == EMPTY {
            return skipped;
        }
        entity.waiting.take_least();
        entity.member(least)
    }

    /// Gives the CPU to a vCPU that is in no tree, on its own account.
    #[inline]
    fn install(&mut self, chosen: u16, slot: u16, now: Tsc) {
        self.runner = slot;
        self.payer = slot;
        self.paying = chosen;
        self.turn = Turn::Going;
        self.turn_start = now;
        self.special = self.aside != NONE || self.lent_until.is_some();
        if let Some(vcpu) = self.vcpus.get_mut(usize::from(slot)) {
            vcpu.state = State::Running;
            vcpu.stop_waiting(now);
            self.waiting = self.waiting.saturating_sub(1);
            if let Some(entity) = self.entities.get_mut(usize::from(chosen)) {
                entity.place = Place::Paying;
                entity.order_floor = entity.order_floor.max(vcpu.order);
            }
        }
        if self
            .entities
            .get(usize::from(chosen))
            .is_some_and(|entity| entity.order_floor.0 >= ORDER_LIMIT / 2)
        {
            self.lower_orders(chosen);
        }
        self.set_slice_end(now);
    }
}
