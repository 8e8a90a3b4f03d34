//! The usual case of a yield, in one piece: nothing special about the turn, and somebody else waits who is next without question.
//!
//! Does what [`RunQueue::pick`] does in general, in a third of the instructions, or nothing. `theorem.rs` runs both side by side.

use super::clock::{FARTHEST, MAX_STEP};
use super::entity::Place;
use super::tree::{EMPTY, LEAF, is_before, leaf_of, word};
use super::vcpu::{ORDER_LIMIT, State, Vcpu};
use super::{RunQueue, Turn};
use crate::base::time::{Ticks, Tsc};

/// A hand-over that is decided and not yet done.
struct Decided {
    passed: Ticks,
    clock: u64,
    /// The yielder's entity: its start, and its new request.
    start: u64,
    deadline: u64,
    length: Ticks,
    postponed: u64,
    /// The entity whose vCPU runs next.
    next: u16,
}

impl RunQueue {
    /// Gives the CPU of a runner that yielded to the next one; returns false, having done nothing, when that is not simple.
    #[inline]
    pub(super) fn hand_over(&mut self, now: Tsc) -> bool {
        let Some(decided) = self.decide(now) else { return false };
        self.carry_out(&decided, now);
        true
    }

    #[inline(always)]
    fn decide(&self, now: Tsc) -> Option<Decided> {
        let passed = Ticks(now.0.wrapping_sub(self.charged_to.0));
        let entity = self.entities.get(usize::from(self.paying))?;
        let clock = self.clock.now.wrapping_add(self.clock.rate.span(passed));
        let start = entity.start.wrapping_add(entity.rate.span(passed));
        if passed.0 > MAX_STEP || clock >= self.attend_at || start > FARTHEST {
            return None;
        }
        // Whose request its guest issues: that of a sibling that waits, or its own.
        let sibling = entity.waiting.least();
        let issuer = if sibling == EMPTY {
            self.runner
        } else {
            *entity.members.get(usize::from(leaf_of(sibling)))?
        };
        let length = self.vcpus.get(usize::from(issuer))?.length;
        // One that is behind the clock keeps what its deadlines are postponed by, and may not move one forward.
        let postponed = if start < clock { entity.postponed } else { 0 };
        let deadline = start.wrapping_add(postponed).wrapping_add(entity.rate.span(length));
        if start < clock && deadline < entity.deadline {
            return None;
        }
        let mut decided = Decided { passed, clock, start, deadline, length, postponed, next: self.paying };
        let first = self.candidates.least();
        if self.early.least() != EMPTY {
            return None;
        }
        if first == EMPTY {
            // Its guest is alone, and the clock runs with it, or ahead when the guest is owed service.
            decided.clock = start.max(clock);
            return (sibling != EMPTY && entity.order_floor.0 < ORDER_LIMIT / 2).then_some(decided);
        }
        decided.next = leaf_of(first);
        let next = self.entities.get(usize::from(decided.next))?;
        if next.start > clock | LEAF {
            // The first candidate is ahead of the clock. If it is the least of all, the clock catches up.
            if self.candidate_spans.longest() > next.span() || start < next.start {
                return None;
            }
            decided.clock = next.start;
        }
        let own = word(deadline, self.paying);
        if start <= decided.clock | LEAF {
            // It is eligible itself: a sibling may run, but it may not have to stand aside.
            if sibling == EMPTY && is_before(own, first) {
                return None;
            }
            if sibling != EMPTY && !is_before(first, own) {
                decided.next = self.paying;
                return (entity.order_floor.0 < ORDER_LIMIT / 2).then_some(decided);
            }
        }
        (next.waiting.least() != EMPTY && next.order_floor.0 < ORDER_LIMIT / 2).then_some(decided)
    }

    #[inline(always)]
    fn carry_out(&mut self, decided: &Decided, now: Tsc) {
        let (previous, last, next) = (self.runner, self.paying, decided.next);
        self.clock.now = decided.clock;
        self.charged_to = now;
        let Some(vcpu) = self.vcpus.get_mut(usize::from(previous)) else { return };
        vcpu.run.0 = vcpu.run.0.wrapping_add(decided.passed.0);
        vcpu.order.0 = vcpu.order.0.wrapping_add(decided.passed.0);
        vcpu.state = State::Waiting;
        vcpu.since = now;
        let yielder = vcpu.word();

        let Some(entity) = self.entities.get_mut(usize::from(last)) else { return };
        entity.start = decided.start;
        entity.deadline = decided.deadline;
        entity.left = decided.length;
        entity.postponed = decided.postponed;
        let span = entity.span();
        if next != last {
            entity.waiting.put(yielder);
            entity.place = Place::Candidate;
            self.candidates.put(word(decided.deadline, last));
            self.candidates.clear(next);
        }
        let Some(chosen) = self.entities.get_mut(usize::from(next)) else { return };
        let taken = chosen.waiting.take_least();
        if next == last {
            chosen.waiting.put(yielder);
        } else {
            chosen.place = Place::Paying;
            if chosen.span() != span {
                self.candidate_spans.add(span);
                self.candidate_spans.remove(chosen.span());
            }
        }
        let Some(slot) = chosen.members.get(usize::from(leaf_of(taken))).copied() else { return };
        let Some(vcpu) = self.vcpus.get_mut(usize::from(slot)) else { return };
        vcpu.state = State::Running;
        vcpu.stop_waiting(now);
        vcpu.switches = vcpu.switches.wrapping_add(1);
        chosen.order_floor = chosen.order_floor.max(vcpu.order);
        self.runner = slot;
        self.payer = slot;
        self.paying = next;
        self.turn = Turn::Going;
        self.turn_start = now;
        self.slice_end = now + chosen.left;
        let own = word(chosen.deadline, next);
        if is_before(self.candidates.least(), own) || Vcpu::has_deadline(chosen.waiting.least()) {
            self.set_slice_end(now);
        }
    }
}
