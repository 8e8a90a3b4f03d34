//! Who pays: exact debit, in ticks.

use super::clock::Virtual;
use super::entity::Place;
use super::params::Params;
use super::tree::{EMPTY, leaf_of};
use super::vcpu::State;
use super::{NONE, RunQueue, Slot, Usage};
use crate::base::time::{Ticks, Tsc};

impl RunQueue {
    /// Charges the runner, or whoever runs it on his account, up to `now`, and lets the virtual clock pass.
    #[inline]
    pub fn charge(&mut self, now: Tsc) {
        let passed = now.since(self.charged_to);
        if passed.0 != 0 {
            self.charged_to = now;
            self.clock.advance(passed);
            if let Some(runner) = self.vcpus.get_mut(usize::from(self.runner)) {
                runner.run.0 = runner.run.0.wrapping_add(passed.0);
                if let Some(payer) = self.vcpus.get_mut(usize::from(self.payer)) {
                    payer.order.0 = payer.order.0.wrapping_add(passed.0);
                }
                if let Some(entity) = self.entities.get_mut(usize::from(self.paying)) {
                    entity.charge(passed);
                }
            }
        }
        self.catch_up();
        if self.clock.is_due() {
            self.move_base();
        }
    }

    /// Moves the clock up to the least start of the runnable: nobody is left to whom it would owe the time between.
    #[inline]
    pub(super) fn catch_up(&mut self) {
        if self.eligible.least() != EMPTY || self.aside != NONE {
            return;
        }
        let mut least = Virtual(u128::MAX);
        if let Some(entity) = self.entities.get(usize::from(self.paying)) {
            if entity.start <= self.clock.now {
                return;
            }
            least = entity.start;
        }
        let early = self.early.least();
        if early != EMPTY
            && let Some(entity) = self.entities.get(usize::from(leaf_of(early)))
            && entity.start < least
        {
            least = entity.start;
        }
        if least.0 != u128::MAX && least > self.clock.now {
            self.clock.now = least;
        }
    }

    /// Moves the base of the keys, and with it every key. Once in minutes to hours.
    #[cold]
    fn move_base(&mut self) {
        self.clock.move_base();
        for index in 0..self.entities.len() {
            let Ok(index) = u16::try_from(index) else { return };
            if self.leave_trees(index) {
                self.join_trees(index);
            }
        }
    }

    /// Charges hypervisor time to the guest that caused it while another one runs, and takes it off the runner's.
    ///
    /// The clock does not pass meanwhile: the time was taken from the fair layer, and the guest that took it gives it back
    /// by waiting longer. The runner's slice is measured in its own service, so it ends later.
    pub fn debit(&mut self, slot: Slot, cost: Ticks) {
        let Some(vcpu) = self.vcpus.get_mut(usize::from(slot.0)) else { return };
        if vcpu.state == State::Free {
            return;
        }
        vcpu.run.0 = vcpu.run.0.wrapping_add(cost.0);
        vcpu.order.0 = vcpu.order.0.wrapping_add(cost.0);
        let index = vcpu.entity;
        if slot.0 != self.runner
            && let Some(runner) = self.vcpus.get_mut(usize::from(self.runner))
        {
            runner.wait.0 = runner.wait.0.wrapping_add(cost.0);
        }
        self.charged_to = self.charged_to + cost;
        if index == self.paying {
            self.clock.advance(cost);
        } else if self.slice_end != Tsc::NEVER {
            self.slice_end = self.slice_end + cost;
            self.turn_start = self.turn_start + cost;
            self.lent_until = self.lent_until.map(|end| end + cost);
            self.extended_to = self.extended_to.map(|end| end + cost);
        }
        let queued = self.leave_trees(index);
        let Some(entity) = self.entities.get_mut(usize::from(index)) else { return };
        entity.charge(cost);
        if queued {
            if entity.left.0 == 0 {
                self.issue_next(index);
            }
            self.join_trees(index);
        }
    }

    /// What a vCPU has got so far, the present turn included up to the last charge.
    pub fn usage(&self, slot: Slot) -> Usage {
        let Some(vcpu) = self.vcpus.get(usize::from(slot.0)) else { return Usage::default() };
        let waited = if vcpu.state == State::Waiting { self.charged_to.since(vcpu.since) } else { Ticks(0) };
        Usage {
            run: vcpu.run,
            wait: Ticks(vcpu.wait.0.wrapping_add(waited.0)),
            lag: self.lag(vcpu.entity),
            switches: vcpu.switches,
            overruns: vcpu.overruns,
        }
    }

    /// Service an entity is owed, in ticks. One that sleeps is owed nothing, but may owe.
    fn lag(&self, index: u16) -> i64 {
        let Some(entity) = self.entities.get(usize::from(index)) else { return 0 };
        let owed = entity.rate.service(self.clock.now.0.saturating_sub(entity.start.0));
        let owes = entity.rate.service(entity.start.0.saturating_sub(self.clock.now.0));
        if owes.0 > 0 {
            i64::try_from(owes.0).map_or(i64::MIN, |owes| -owes)
        } else if entity.place == Place::Asleep {
            0
        } else {
            i64::try_from(owed.0).unwrap_or(i64::MAX)
        }
    }

    /// The length of a request as it is issued.
    #[inline]
    pub(super) fn clamp(params: &Params, length: Ticks) -> Ticks {
        Ticks(length.0.max(params.min_request.0).min(params.max_request.0))
    }
}
