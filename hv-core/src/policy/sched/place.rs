//! Where entities stand: in which tree, or in none.

use super::entity::Place;
use super::tree::{EMPTY, key_of, leaf_of, word};
use super::{NONE, RunQueue};
use crate::base::time::Ticks;

impl RunQueue {
    /// Notes where an entity is.
    #[inline]
    pub(super) fn set_place(&mut self, index: u16, place: Place) {
        if let Some(entity) = self.entities.get_mut(usize::from(index)) {
            entity.place = place;
        }
    }

    /// Puts a runnable entity into the trees it belongs to.
    #[inline]
    pub(super) fn join_trees(&mut self, index: u16) {
        let Some(entity) = self.entities.get_mut(usize::from(index)) else { return };
        let start = self.clock.key(entity.start);
        let deadline = word(self.clock.key(entity.deadline), index);
        if start <= self.clock.key(self.clock.now) {
            entity.place = Place::Eligible;
            self.eligible.put(deadline);
        } else {
            entity.place = Place::Early;
            self.early.put(word(start, index));
            self.early_deadlines.put(deadline);
        }
    }

    /// Takes an entity out of the trees; says whether it was in any.
    #[inline]
    pub(super) fn leave_trees(&mut self, index: u16) -> bool {
        match self.entities.get(usize::from(index)).map(|entity| entity.place) {
            Some(Place::Eligible) => self.eligible.clear(index),
            Some(Place::Early) => {
                self.early.clear(index);
                self.early_deadlines.clear(index);
            }
            Some(Place::Free | Place::Asleep | Place::Paying | Place::Aside | Place::Leaving) | None => {
                return false;
            }
        }
        true
    }

    /// Takes an early entity out of its trees; returns its word by deadline.
    #[inline]
    pub(super) fn take_early(&mut self, index: u16) -> u64 {
        self.early.clear(index);
        self.early_deadlines.clear(index);
        self.entities
            .get(usize::from(index))
            .map_or(EMPTY, |entity| word(self.clock.key(entity.deadline), index))
    }

    /// Puts an entity that is in no tree among the eligible.
    #[inline]
    pub(super) fn make_eligible(&mut self, deadline: u64) {
        if deadline != EMPTY {
            self.eligible.put(deadline);
            self.set_place(leaf_of(deadline), Place::Eligible);
        }
    }

    /// Moves those the clock has reached among the eligible.
    pub(super) fn promote(&mut self) {
        let clock = self.clock.key(self.clock.now);
        loop {
            let least = self.early.least();
            if least == EMPTY || key_of(least) > clock {
                return;
            }
            let deadline = self.take_early(leaf_of(least));
            self.make_eligible(deadline);
        }
    }

    /// Issues a request of this length for an entity.
    #[inline]
    pub(super) fn issue(&mut self, index: u16, length: Ticks) {
        let length = Self::clamp(&self.params, length);
        if let Some(entity) = self.entities.get_mut(usize::from(index)) {
            entity.issue(length, &self.clock);
        }
    }

    /// Issues the request of an entity's first waiting vCPU.
    #[inline]
    pub(super) fn issue_next(&mut self, index: u16) {
        self.issue_for(index, NONE);
    }

    /// Issues the request of an entity's first waiting vCPU, or of `otherwise` when none waits.
    #[inline]
    pub(super) fn issue_for(&mut self, index: u16, otherwise: u16) {
        let Some(entity) = self.entities.get(usize::from(index)) else { return };
        let least = entity.waiting.least();
        let first =
            if least == EMPTY { None } else { entity.members.get(usize::from(leaf_of(least))).copied() };
        let slot = first.unwrap_or(otherwise);
        let length =
            self.vcpus.get(usize::from(slot)).map_or(self.params.default_request, |vcpu| vcpu.request.length);
        self.issue(index, length);
    }

    /// Puts an entity to sleep when none of its vCPUs is runnable and nobody runs on its account.
    pub(super) fn sleep_if_done(&mut self, index: u16) {
        let runs = self.vcpus.get(usize::from(self.runner)).is_some_and(|vcpu| vcpu.entity == index)
            || (self.paying == index && self.runner != NONE);
        let waits =
            self.entities.get(usize::from(index)).is_some_and(|entity| entity.waiting.least() != EMPTY);
        if !runs && !waits {
            self.fall_asleep(index);
        }
    }

    /// Takes an entity out of the competition. Its start stays: what it owes is owed when it wakes.
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

    /// Lets the runner pay for itself when the guest it ran on behalf of is removed.
    pub(super) fn stop_paying(&mut self) {
        self.fall_asleep(self.paying);
        if let Some(own) = self.vcpus.get(usize::from(self.runner)).map(|vcpu| vcpu.entity) {
            self.leave_trees(own);
            if self.aside == own {
                self.aside = NONE;
            }
            self.payer = self.runner;
            self.paying = own;
            self.set_place(own, Place::Paying);
        }
    }
}
