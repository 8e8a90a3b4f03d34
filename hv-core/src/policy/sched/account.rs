//! Accounting: the exact debit of service, in ticks.

use super::clock::MAX_STEP;
use super::entity::Place;
use super::params::Params;
use super::vcpu::State;
use super::{EntityId, Law, NONE, RunQueue, Slot, Usage};
use crate::base::time::{Ticks, Tsc};

impl RunQueue {
    /// Charges the runner, or the donor on whose account it runs, up to `now`, and lets the virtual clock pass.
    #[inline]
    pub fn charge(&mut self, now: Tsc) {
        self.pass(now);
        self.catch_up();
    }

    /// Charges; the clock only goes on.
    #[inline]
    pub(super) fn pass(&mut self, now: Tsc) {
        let passed = now.since(self.charged_to);
        if passed.0 == 0 {
            return;
        }
        self.charged_to = now;
        if passed.0 <= MAX_STEP {
            self.pass_step(passed);
        } else {
            self.pass_long(passed);
        }
    }

    #[inline]
    fn pass_step(&mut self, passed: Ticks) {
        self.clock.advance(passed);
        if let Some(runner) = self.vcpus.get_mut(usize::from(self.runner)) {
            runner.run.0 = runner.run.0.wrapping_add(passed.0);
            runner.order.0 = runner.order.0.wrapping_add(passed.0);
            if let Some(entity) = self.entities.get_mut(usize::from(self.paying)) {
                entity.charge(passed);
            }
            if self.runner != self.payer {
                self.move_order(passed);
            }
        }
        if self.clock.now >= self.attend_at {
            self.keep_clock_short();
        }
    }

    /// Lets the donor of a directed yield lose its place among its siblings, and not the vCPU that runs.
    #[cold]
    fn move_order(&mut self, passed: Ticks) {
        if let Some(runner) = self.vcpus.get_mut(usize::from(self.runner)) {
            runner.order.0 = runner.order.0.wrapping_sub(passed.0);
        }
        if let Some(payer) = self.vcpus.get_mut(usize::from(self.payer)) {
            payer.order.0 = payer.order.0.wrapping_add(passed.0);
        }
    }

    /// Charges more than a minute without an exit: only a lone vCPU runs that long.
    #[cold]
    fn pass_long(&mut self, passed: Ticks) {
        let mut rest = passed.0;
        while rest != 0 {
            let step = rest.min(MAX_STEP);
            self.pass_step(Ticks(step));
            self.catch_up();
            rest -= step;
        }
    }

    /// Moves every virtual time with the base of the clock when that is due, and drops the weights of removed guests that have paid. This
    /// happens once in minutes to hours.
    #[cold]
    fn keep_clock_short(&mut self) {
        if let Some(back) = self.clock.move_base() {
            self.aside_since = self.aside_since.saturating_sub(back);
            for index in 0..self.entities.len() {
                let Ok(id) = u16::try_from(index) else { return };
                let queued = self.leave_trees(id);
                if let Some(entity) = self.entities.get_mut(index) {
                    entity.move_back(back);
                }
                if queued {
                    self.join_trees(id);
                }
            }
        }
        self.release_weights();
    }

    /// Charges hypervisor time to the guest that caused it while another guest runs, and takes it off the runner's time.
    ///
    /// The clock does not pass meanwhile: the time was taken from the fair layer, and the guest that took it gives it back
    /// by waiting longer. The runner's slice is measured in its own service, so it ends later.
    ///
    /// The guest pays, even if its vCPU in `slot` has stopped or moved away meanwhile: such a vCPU shows no time for it, and a guest that
    /// left with the vCPU owes it here.
    pub fn debit(&mut self, guest: EntityId, slot: Slot, cost: Ticks) {
        let index = guest.0;
        let Some(place) = self.entities.get(usize::from(index)).map(|entity| entity.place) else { return };
        let vcpu = self.vcpus.get_mut(usize::from(slot.0));
        if let Some(vcpu) = vcpu.filter(|vcpu| vcpu.entity == index) {
            vcpu.run.0 = vcpu.run.0.wrapping_add(cost.0);
            vcpu.order.0 = vcpu.order.0.wrapping_add(cost.0);
        }
        if index == self.paying || self.is_broken(Law::StopClockForDebit) {
            if slot.0 != self.runner {
                self.make_runner_wait(cost);
            }
            self.charged_to = self.charged_to + cost;
            self.clock.advance(Ticks(cost.0.min(MAX_STEP)));
        } else {
            self.lose(cost);
        }
        let queued = self.leave_trees(index);
        let clock = self.clock.now;
        let Some(entity) = self.entities.get_mut(usize::from(index)) else { return };
        if place == Place::Free {
            entity.admit(entity.rate.weight(), clock);
            entity.place = Place::Leaving;
        }
        entity.charge_any(cost);
        if queued {
            if entity.left.0 == 0 {
                self.issue_for(index, NONE);
            }
            self.join_trees(index);
        } else if matches!(place, Place::Free | Place::Leaving) {
            self.release_weights();
        }
    }

    /// Leaves out time that no vCPU here received, and that is charged elsewhere or later. The clock does not pass, and the runner's
    /// slice ends later.
    pub fn lose(&mut self, cost: Ticks) {
        self.make_runner_wait(cost);
        self.charged_to = self.charged_to + cost;
        if self.slice_end != Tsc::NEVER {
            self.slice_end = self.slice_end + cost;
            self.turn_start = self.turn_start + cost;
            self.lent_until = self.lent_until.map(|end| end + cost);
            self.extended_to = self.extended_to.map(|end| end + cost);
        }
    }

    fn make_runner_wait(&mut self, cost: Ticks) {
        if let Some(runner) = self.vcpus.get_mut(usize::from(self.runner)) {
            runner.wait.0 = runner.wait.0.wrapping_add(cost.0);
        }
    }

    /// The service that a vCPU has received so far, including the present turn up to the last charge.
    pub fn usage(&self, slot: Slot) -> Usage {
        let Some(vcpu) = self.vcpus.get(usize::from(slot.0)) else { return Usage::default() };
        let waited = if vcpu.state == State::Waiting { self.charged_to.since(vcpu.since) } else { Ticks(0) };
        Usage {
            run: vcpu.run,
            wait: Ticks(vcpu.wait.0.wrapping_add(waited.0)),
            lag: self.lag(vcpu.entity),
            overruns: vcpu.overruns,
        }
    }

    /// Service that an entity is owed, in ticks. A sleeping entity is owed nothing, but may owe.
    fn lag(&self, index: u16) -> i64 {
        let Some(entity) = self.entities.get(usize::from(index)) else { return 0 };
        let owes = entity.debt(self.clock.now);
        if owes.0 > 0 {
            i64::try_from(owes.0).map_or(i64::MIN, |owes| -owes)
        } else if entity.place == Place::Asleep {
            0
        } else {
            let owed = entity.rate.service(self.clock.now.saturating_sub(entity.start));
            i64::try_from(owed.0).unwrap_or(i64::MAX)
        }
    }

    /// The length of a request as it is issued.
    #[inline]
    pub(super) fn clamp(params: &Params, length: Ticks) -> Ticks {
        Ticks(length.0.max(params.min_request.0).min(params.max_request.0))
    }
}
