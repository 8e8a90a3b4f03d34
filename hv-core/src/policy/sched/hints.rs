//! Requests of a running vCPU: to yield, to run another vCPU in its place, and to end a critical section first.

use super::params::SliceRequest;
use super::vcpu::State;
use super::{NONE, RunQueue, Slot, Turn};
use crate::base::time::Tsc;

impl RunQueue {
    /// The runner offers the CPU; the caller must call [`Self::pick`] next when another vCPU waits.
    ///
    /// The runner's guest keeps its start and issues a new request from there: it loses nothing of its share. The next pick skips
    /// the vCPU once, and also skips the guest if no other vCPU of it waits.
    #[inline]
    pub fn yield_current(&mut self, request: SliceRequest, now: Tsc) {
        let length = Self::clamp(&self.params, request.length);
        let Some(vcpu) = self.vcpus.get_mut(usize::from(self.runner)) else { return };
        vcpu.ask(request, length);
        if self.extended_to.is_some() {
            self.settle_extension(true, now);
        }
        if self.waiting == 0 {
            self.charge(now);
            self.issue(self.paying, length);
        } else {
            self.turn = Turn::Yielded;
        }
    }

    /// Notes the request that the runner will issue when its present request is used up.
    pub fn ask(&mut self, request: SliceRequest) {
        let length = Self::clamp(&self.params, request.length);
        if let Some(vcpu) = self.vcpus.get_mut(usize::from(self.runner)) {
            vcpu.ask(request, length);
        }
    }

    /// Runs `target` in place of the runner, on the runner's request, deadline, slice end and account. No lag moves: the target's service
    /// until the next decision is charged to the guest that gave the CPU. Returns false, and changes nothing, when the target does not
    /// wait for this CPU.
    pub fn yield_to(&mut self, target: Slot, now: Tsc) -> bool {
        let donor = self.runner;
        let waits = self.vcpus.get(usize::from(target.0)).is_some_and(|vcpu| vcpu.state == State::Waiting);
        if donor == NONE || !waits {
            return false;
        }
        self.charge(now);
        self.settle_extension(true, now);
        if let Some(vcpu) = self.vcpus.get_mut(usize::from(target.0)) {
            vcpu.state = State::Running;
            vcpu.stop_waiting(now);
            if let Some(entity) = self.entities.get_mut(usize::from(vcpu.entity)) {
                entity.waiting.clear(vcpu.leaf);
            }
        }
        if let Some(vcpu) = self.vcpus.get_mut(usize::from(donor)) {
            vcpu.state = State::Waiting;
            vcpu.since = now;
        }
        self.enqueue(donor);
        self.runner = target.0;
        self.special = true;
        self.turn = Turn::Going;
        true
    }

    /// Lets the runner finish a critical section past [`Self::slice_end`]: returns the end of the extension, or `None` when the runner
    /// must give up the CPU.
    ///
    /// An extension lasts at most [`super::Params::extension`], and a turn has at most one. The exact debit is the only repayment. A vCPU
    /// that lets an extension run out is refused the next 1, 3, 7, … up to 1,023, until it ends one by itself.
    pub fn extend(&mut self, now: Tsc) -> Option<Tsc> {
        self.charge(now);
        if self.extended_to.is_some() || self.waiting == 0 || now < self.slice_end {
            return None;
        }
        let vcpu = self.vcpus.get_mut(usize::from(self.runner))?;
        if !vcpu.take_extension() {
            return None;
        }
        let end = now + self.params.extension;
        self.extended_to = Some(end);
        self.special = true;
        self.slice_end = end;
        Some(end)
    }

    /// Closes an extension, if there is one, and notes whether the runner let it run out.
    #[inline]
    pub(super) fn settle_extension(&mut self, gave_up: bool, now: Tsc) {
        let Some(end) = self.extended_to.take() else { return };
        if let Some(vcpu) = self.vcpus.get_mut(usize::from(self.runner)) {
            if gave_up {
                vcpu.kept_its_word();
            } else if now >= end {
                vcpu.overran();
            }
        }
    }
}
