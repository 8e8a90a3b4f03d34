//! The place of each entity: the tree that holds it, or none.

use super::entity::Place;
use super::tree::{EMPTY, LEAF, is_before, leaf_of, word};
use super::{Law, NONE, RunQueue};
use crate::base::time::Ticks;

/// The candidate that comes before a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Front {
    /// No candidate with an earlier deadline.
    Nobody,
    /// The eligible one with the earliest deadline.
    Eligible(u16),
    /// No eligible one. The first candidate by deadline is also the first by start: its start, and its index as the leaf.
    Ahead(u64),
}

impl RunQueue {
    /// Notes an entity's place.
    #[inline]
    pub(super) fn set_place(&mut self, index: u16, place: Place) {
        if let Some(entity) = self.entities.get_mut(usize::from(index)) {
            entity.place = place;
        }
    }

    /// Whether the clock has reached a start.
    #[inline]
    pub(super) const fn is_reached(&self, start: u64) -> bool {
        start <= self.clock.now | LEAF
    }

    /// Puts an entity among the waiting ones.
    #[inline]
    pub(super) fn join_trees(&mut self, index: u16) {
        let Some(entity) = self.entities.get_mut(usize::from(index)) else { return };
        entity.place = Place::Candidate;
        self.candidates.put(word(entity.deadline, index));
        self.candidate_spans.add(entity.span());
    }

    /// Takes an entity out of its tree; returns whether it was in any.
    #[inline]
    pub(super) fn leave_trees(&mut self, index: u16) -> bool {
        let Some(entity) = self.entities.get(usize::from(index)) else { return false };
        match entity.place {
            Place::Candidate => {
                self.candidates.clear(index);
                self.candidate_spans.remove(entity.span());
            }
            Place::Early => {
                self.early.clear(index);
                self.early_spans.remove(entity.span());
            }
            Place::Free | Place::Asleep | Place::Paying | Place::Aside | Place::Leaving => return false,
        }
        true
    }

    /// Sets a candidate apart until the clock has reached it.
    fn set_apart(&mut self, index: u16) {
        self.leave_trees(index);
        let Some(entity) = self.entities.get_mut(usize::from(index)) else { return };
        entity.place = Place::Early;
        self.early.put(word(entity.start, index));
        self.early_spans.add(entity.span());
    }

    /// Brings back the entities that the clock has reached.
    fn bring_back(&mut self) {
        while self.is_reached(self.early.least()) {
            let index = leaf_of(self.early.least());
            self.leave_trees(index);
            self.join_trees(index);
        }
    }

    /// The least start of the entities set apart; `EMPTY` when there are none.
    fn first_early(&self) -> u64 {
        let first = self.early.least();
        let entity = self.entities.get(usize::from(leaf_of(first))).filter(|_| first != EMPTY);
        entity.map_or(EMPTY, |entity| entity.start)
    }

    /// Moves the clock up to the least start of the runnable: nobody is left to whom it would owe the time between.
    ///
    /// The first candidate is mostly eligible, and then there is nothing to do. If not, and none has a longer request, then
    /// none has an earlier start either.
    pub(super) fn catch_up(&mut self) {
        if self.aside != NONE {
            return;
        }
        self.bring_back();
        let mut least = self.first_early();
        while let Some(entity) = self.entities.get(usize::from(leaf_of(self.candidates.least()))) {
            if self.candidates.least() == EMPTY {
                break;
            }
            if self.is_reached(entity.start) {
                return;
            }
            if self.candidate_spans.longest() <= entity.span() {
                least = least.min(entity.start);
                break;
            }
            self.set_apart(leaf_of(self.candidates.least()));
            least = self.first_early();
        }
        if let Some(paying) = self.entities.get(usize::from(self.paying)) {
            least = least.min(paying.start);
        }
        if least > self.clock.now && least <= EMPTY >> 1 {
            self.clock.now = least;
            self.bring_back();
        }
    }

    /// Who stands before a request that ends at `own`; sets those apart that it finds ahead of the clock while others with
    /// a longer request may be eligible.
    #[inline]
    pub(super) fn front(&mut self, own: u64) -> Front {
        loop {
            let first = self.candidates.least();
            if !is_before(first, own) {
                return Front::Nobody;
            }
            let index = leaf_of(first);
            let Some(entity) = self.entities.get(usize::from(index)) else { return Front::Nobody };
            if self.is_reached(entity.start) {
                return Front::Eligible(index);
            }
            if self.candidate_spans.longest() <= entity.span() {
                return Front::Ahead(word(entity.start, index));
            }
            self.set_apart(index);
        }
    }

    /// Issues a request of this length, clamped already, for an entity.
    #[inline]
    pub(super) fn issue(&mut self, index: u16, length: Ticks) {
        let shorten = self.is_broken(Law::KeepDeadlineWhenBehind);
        if let Some(entity) = self.entities.get_mut(usize::from(index)) {
            if shorten {
                entity.deadline = entity.start;
            }
            entity.issue(length, self.clock.now);
        }
    }

    /// Issues the request of an entity's first waiting vCPU, or of `otherwise` when none waits.
    #[inline]
    pub(super) fn issue_for(&mut self, index: u16, otherwise: u16) {
        let Some(entity) = self.entities.get(usize::from(index)) else { return };
        let least = entity.waiting.least();
        let slot = if least == EMPTY { otherwise } else { entity.member(least) };
        let length =
            self.vcpus.get(usize::from(slot)).map_or(self.params.default_request, |vcpu| vcpu.length);
        self.issue(index, length);
    }

    /// Puts an entity to sleep when none of its vCPUs is runnable and no vCPU runs on its account.
    pub(super) fn sleep_if_done(&mut self, index: u16) {
        let runs = self.vcpus.get(usize::from(self.runner)).is_some_and(|vcpu| vcpu.entity == index)
            || (self.paying == index && self.runner != NONE);
        let waits =
            self.entities.get(usize::from(index)).is_some_and(|entity| entity.waiting.least() != EMPTY);
        if !runs && !waits {
            self.fall_asleep(index);
        }
    }

    /// Puts an entity without a waiting vCPU to sleep, unless a vCPU that yielded is held back.
    pub(super) fn leave_or_hold(&mut self, index: u16, skipped: u16) {
        if self.vcpus.get(usize::from(skipped)).is_none_or(|vcpu| vcpu.entity != index) {
            self.fall_asleep(index);
        }
    }

    /// Takes an entity out of the competition. Its start stays, so that it still owes its debt when it wakes.
    pub(super) fn fall_asleep(&mut self, index: u16) {
        self.leave_trees(index);
        if self.paying == index {
            self.paying = NONE;
        }
        if self.aside == index {
            self.aside = NONE;
        }
        self.set_place(index, Place::Asleep);
    }
}
