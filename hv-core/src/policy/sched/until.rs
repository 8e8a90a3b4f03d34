//! The time until which the runner may run before the next decision.

use super::place::Front;
use super::tree::{EMPTY, LEAF, leaf_of, word};
use super::{Law, NONE, RunQueue};
use crate::base::time::{Ticks, Tsc};

impl RunQueue {
    /// Computes the time of the next decision: the end of the runner's request, or the time when an earlier deadline can preempt it.
    #[inline]
    pub(super) fn set_slice_end(&mut self, now: Tsc) {
        self.slice_end =
            if self.runner == NONE || self.waiting == 0 { Tsc::NEVER } else { self.decision(now) };
    }

    #[inline]
    fn decision(&mut self, now: Tsc) -> Tsc {
        if let Some(end) = self.extended_to {
            return end;
        }
        let Some(entity) = self.entities.get(usize::from(self.paying)) else { return now };
        let mut end = now + entity.left;
        if let Some(lent) = self.lent_until {
            end = end.min(lent);
        }
        let own = word(entity.deadline, self.paying);
        let preempts_from = (self.turn_start + self.params.min_turn).max(now);
        let front = self.front(own);
        let early = self.early.least();
        let next = match front {
            _ if self.is_broken(Law::Preempt) => return end,
            Front::Eligible(_) => return end.min(preempts_from),
            Front::Ahead(first) => early.min(first),
            Front::Nobody if early.saturating_add(self.early_spans.shortest()) < own => early,
            Front::Nobody => EMPTY,
        };
        if self.sibling_is_urgent() {
            end.min(preempts_from)
        } else if next != EMPTY {
            end.min((now + self.until_reached(next & !LEAF)).max(preempts_from))
        } else {
            end
        }
    }

    /// Running time until the clock reaches a start, or less. Where no entity is eligible, the clock runs with the runner's own start.
    #[cold]
    fn until_reached(&self, start: u64) -> Ticks {
        let mut wait = self.clock.rate.service(start.saturating_sub(self.clock.now));
        let first = self.candidates.least();
        let eligible = self.entities.get(usize::from(leaf_of(first))).filter(|_| first != EMPTY);
        if self.aside == NONE
            && eligible.is_none_or(|entity| !self.is_reached(entity.start))
            && let Some(paying) = self.entities.get(usize::from(self.paying))
        {
            wait = wait.min(paying.rate.service(start.saturating_sub(paying.start)));
        }
        Ticks(wait.0.saturating_add(1))
    }
}
