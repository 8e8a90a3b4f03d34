//! The fast path of a yield: the turn is not special, and another vCPU waits that is clearly next.
//!
//! The fast path has the same effect as [`RunQueue::pick`] in a third of the instructions, or no effect. `theorem.rs` runs both side by
//! side.

use super::clock::{FARTHEST, MAX_STEP};
use super::entity::{Entity, Place};
use super::tree::{EMPTY, LEAF, is_before, leaf_of, word};
use super::vcpu::{ORDER_LIMIT, State, Vcpu};
use super::{RunQueue, Slot, Turn};
use crate::base::time::{Ticks, Tsc};

/// A turn that ends with a yield: where the yielder's entity stands then, with its new request, and where the clock does.
struct Ended {
    passed: Ticks,
    clock: u64,
    start: u64,
    deadline: u64,
    length: Ticks,
}

/// The next vCPU, as a sibling of the yielder or a vCPU of another guest.
enum Next {
    /// The next turn is for another vCPU of the same guest.
    Sibling,
    /// The next turn is for another guest.
    Other(u16),
}

impl RunQueue {
    /// Gives the CPU of a runner that yielded to the next one; returns `None`, having done nothing, when that is not simple.
    #[inline(always)] // every switch runs this, and both vendors' loops call it
    pub(super) fn hand_over(&mut self, now: Tsc) -> Option<Slot> {
        let runner = self.runner;
        let passed = Ticks(now.0.wrapping_sub(self.charged_to.0));
        let entity = self.entities.get(usize::from(self.paying))?;
        let clock = self.clock.now.wrapping_add(self.clock.rate.span(passed));
        let start = entity.start.wrapping_add(entity.rate.span(passed));
        if passed.0 >= MAX_STEP || clock >= self.attend_at || start >= FARTHEST {
            return None;
        }
        // Whose request its guest issues: that of a sibling that waits, or its own.
        let sibling = entity.waiting.least();
        let issuer = if sibling == EMPTY { runner } else { entity.member(sibling) };
        let length = self.vcpus.get(usize::from(issuer))?.length;
        // One that is behind the clock keeps what its deadlines are postponed by, and may not move one forward.
        let postponed = if start < clock { entity.postponed } else { 0 };
        let deadline = start.wrapping_add(postponed).wrapping_add(entity.rate.span(length));
        if start < clock && deadline < entity.deadline {
            return None;
        }
        let mut ended = Ended { passed, clock, start, deadline, length };
        match self.next_after(&mut ended, sibling)? {
            Next::Sibling => self.run_sibling(&ended, issuer, now),
            Next::Other(next) => self.run_other(&ended, next, now),
        }
    }

    /// Whose turn is next, if there is no question; lets the clock catch up with him.
    #[inline(always)]
    fn next_after(&self, ended: &mut Ended, sibling: u64) -> Option<Next> {
        if self.early.least() != EMPTY {
            return None;
        }
        let first = self.candidates.least();
        if first == EMPTY {
            // Its guest is alone, and the clock runs with it, or ahead when the guest is owed service.
            ended.clock = ended.start.max(ended.clock);
            return (sibling != EMPTY).then_some(Next::Sibling);
        }
        let next = self.entities.get(usize::from(leaf_of(first)))?;
        if next.start > ended.clock | LEAF {
            // The first candidate is ahead of the clock. If it is the least of all, the clock catches up.
            if self.candidate_spans.longest() > next.span() || ended.start < next.start {
                return None;
            }
            ended.clock = next.start;
        }
        if ended.start <= ended.clock | LEAF {
            // It is eligible itself: a sibling may run, but it may not have to stand aside.
            let own = word(ended.deadline, self.paying);
            if sibling == EMPTY && is_before(own, first) {
                return None;
            }
            if sibling != EMPTY && !is_before(first, own) {
                return Some(Next::Sibling);
            }
        }
        Some(Next::Other(leaf_of(first)))
    }

    /// The turn of the vCPU `slot`, the first of the yielder's siblings.
    #[inline(always)]
    fn run_sibling(&mut self, ended: &Ended, slot: u16, now: Tsc) -> Option<Slot> {
        let paying = self.paying;
        let entity = self.entities.get_mut(usize::from(paying))?;
        let vcpus = self.vcpus.as_mut_slice();
        let yielder = vcpus.get_mut(usize::from(self.runner))?;
        if entity.order_floor.0 >= ORDER_LIMIT / 2 {
            return None;
        }
        entity.end_turn(ended);
        entity.waiting.replace_least(yielder.end_turn(ended.passed, now));
        let vcpu = vcpus.get_mut(usize::from(slot))?;
        entity.order_floor = entity.order_floor.max(vcpu.order);
        vcpu.begin_turn(now);
        self.slice_end = Tsc(now.0.wrapping_add(ended.length.0));
        // No candidate has an earlier deadline, or it would be its turn.
        let is_urgent = Vcpu::has_deadline(entity.waiting.least());
        self.begin_turn(ended, slot, is_urgent, now)
    }

    /// The turn of another entity, the first candidate.
    #[inline(always)]
    fn run_other(&mut self, ended: &Ended, next: u16, now: Tsc) -> Option<Slot> {
        let last = self.paying;
        let [entity, chosen] = self.entities.get_disjoint_mut([usize::from(last), usize::from(next)]).ok()?;
        let first = chosen.waiting.least();
        let slot = chosen.member(first);
        let [yielder, vcpu] =
            self.vcpus.get_disjoint_mut([usize::from(self.runner), usize::from(slot)]).ok()?;
        if first == EMPTY || chosen.order_floor.0 >= ORDER_LIMIT / 2 {
            return None;
        }
        entity.end_turn(ended);
        entity.waiting.put(yielder.end_turn(ended.passed, now));
        entity.place = Place::Candidate;
        self.candidates.replace_least(word(ended.deadline, last));
        chosen.waiting.take_least();
        chosen.place = Place::Paying;
        if chosen.span() != entity.span() {
            self.candidate_spans.add(entity.span());
            self.candidate_spans.remove(chosen.span());
        }
        chosen.order_floor = chosen.order_floor.max(vcpu.order);
        vcpu.begin_turn(now);
        self.paying = next;
        self.slice_end = Tsc(now.0.wrapping_add(chosen.left.0));
        let is_urgent = Vcpu::has_deadline(chosen.waiting.least())
            || is_before(self.candidates.least(), word(chosen.deadline, next));
        self.begin_turn(ended, slot, is_urgent, now)
    }

    /// The turn begins. `slice_end` is right already, unless somebody may preempt.
    #[inline(always)]
    fn begin_turn(&mut self, ended: &Ended, slot: u16, may_be_preempted: bool, now: Tsc) -> Option<Slot> {
        self.clock.now = ended.clock;
        self.charged_to = now;
        self.runner = slot;
        self.payer = slot;
        self.turn = Turn::Going;
        self.turn_start = now;
        if may_be_preempted {
            self.set_slice_end(now);
        }
        Some(Slot(slot))
    }
}

impl Entity {
    #[inline(always)]
    const fn end_turn(&mut self, ended: &Ended) {
        self.start = ended.start;
        self.deadline = ended.deadline;
        self.left = ended.length;
        // The clock only caught up with somebody if this one is not behind.
        if self.start >= ended.clock {
            self.postponed = 0;
        }
    }
}

impl Vcpu {
    /// Waits again; its word.
    #[inline(always)]
    const fn end_turn(&mut self, passed: Ticks, now: Tsc) -> u64 {
        self.run.0 = self.run.0.wrapping_add(passed.0);
        self.order.0 = self.order.0.wrapping_add(passed.0);
        self.state = State::Waiting;
        self.since = now;
        self.word()
    }

    /// Runs. It waits since a moment that was charged for, so not since one after `now`.
    #[inline(always)]
    const fn begin_turn(&mut self, now: Tsc) {
        self.state = State::Running;
        self.wait.0 = self.wait.0.wrapping_add(now.0.wrapping_sub(self.since.0));
    }
}
