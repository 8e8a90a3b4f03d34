//! Where entities stand: in which tree, or in none.

use super::entity::Place;
use super::tree::{EMPTY, LEAF, leaf_of, word};
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

    /// Whether the clock has reached a start.
    #[inline]
    pub(super) const fn is_reached(&self, start: u64) -> bool {
        start <= self.clock.now | LEAF
    }

    /// Puts a runnable entity into the tree it belongs to.
    #[inline]
    pub(super) fn join_trees(&mut self, index: u16) {
        let Some(entity) = self.entities.get_mut(usize::from(index)) else { return };
        if entity.start <= self.clock.now | LEAF {
            entity.place = Place::Eligible;
            self.eligible.put(word(entity.deadline, index));
        } else {
            entity.place = Place::Early;
            self.early.put(word(entity.start, index));
            self.early_spans.add(entity.deadline.wrapping_sub(entity.start));
        }
    }

    /// Takes an entity out of its tree; says whether it was in any.
    #[inline]
    pub(super) fn leave_trees(&mut self, index: u16) -> bool {
        let Some(entity) = self.entities.get(usize::from(index)) else { return false };
        match entity.place {
            Place::Eligible => self.eligible.clear(index),
            Place::Early => {
                self.early.clear(index);
                self.early_spans.remove(entity.deadline.wrapping_sub(entity.start));
            }
            Place::Free | Place::Asleep | Place::Paying | Place::Aside | Place::Leaving => return false,
        }
        true
    }

    /// Takes an early entity out of its tree; returns its word by deadline.
    #[inline]
    pub(super) fn take_early(&mut self, index: u16) -> u64 {
        self.early.clear(index);
        let Some(entity) = self.entities.get(usize::from(index)) else { return EMPTY };
        self.early_spans.remove(entity.deadline.wrapping_sub(entity.start));
        word(entity.deadline, index)
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
        while self.is_reached(self.early.least()) {
            let deadline = self.take_early(leaf_of(self.early.least()));
            self.make_eligible(deadline);
        }
    }

    /// Issues a request of this length, clamped already, for an entity.
    #[inline]
    pub(super) fn issue(&mut self, index: u16, length: Ticks) {
        if let Some(entity) = self.entities.get_mut(usize::from(index)) {
            entity.issue(length, self.clock.now);
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
            self.vcpus.get(usize::from(slot)).map_or(self.params.default_request, |vcpu| vcpu.length);
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

    /// Puts an entity without a waiting vCPU to sleep, unless one that yielded is held back.
    pub(super) fn leave_or_hold(&mut self, index: u16, skipped: u16) {
        if self.vcpus.get(usize::from(skipped)).is_none_or(|vcpu| vcpu.entity != index) {
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
