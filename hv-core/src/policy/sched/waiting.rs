//! Waiting vCPUs: their way into their guest's tree and out of it.

use super::entity::Place;
use super::params::SliceRequest;
use super::vcpu::State;
use super::{Law, RunQueue};
use crate::base::time::{Ticks, Tsc};

impl RunQueue {
    /// Puts a waiting vCPU into its guest's tree.
    #[inline]
    pub(super) fn enqueue(&mut self, slot: u16) {
        let Some(vcpu) = self.vcpus.get(usize::from(slot)) else { return };
        if let Some(entity) = self.entities.get_mut(usize::from(vcpu.entity)) {
            entity.waiting.put(vcpu.word());
        }
    }

    /// Puts a woken vCPU into the queue.
    pub(super) fn enqueue_woken(&mut self, slot: u16, index: u16, request: SliceRequest, now: Tsc) {
        let length = Self::clamp(&self.params, request.length);
        let forgets = self.is_broken(Law::KeepDebtAtWake);
        let Some(entity) = self.entities.get_mut(usize::from(index)) else { return };
        let Some(vcpu) = self.vcpus.get_mut(usize::from(slot)) else { return };
        vcpu.ask(request, length);
        vcpu.state = State::Waiting;
        vcpu.since = now;
        vcpu.order = vcpu.order.max(entity.order_floor);
        let own = vcpu.word();
        entity.waiting.put(own);
        self.waiting += 1;
        match entity.place {
            Place::Asleep => {
                if forgets {
                    entity.start = 0;
                }
                entity.start = entity.start.max(self.clock.now);
                self.issue(index, length);
                self.join_trees(index);
            }
            // An urgent vCPU joins a waiting guest: the guest gets an earlier turn, unless it is behind already.
            Place::Early | Place::Candidate => {
                let is_first = entity.waiting.least() == own;
                if is_first && length < entity.left && entity.start >= self.clock.now {
                    self.leave_trees(index);
                    self.issue(index, length);
                    self.join_trees(index);
                }
            }
            Place::Paying | Place::Aside | Place::Free | Place::Leaving => {}
        }
    }

    /// Takes a waiting vCPU out of the queue.
    pub(super) fn dequeue(&mut self, slot: u16, now: Tsc) {
        let Some(vcpu) = self.vcpus.get_mut(usize::from(slot)) else { return };
        vcpu.state = State::Asleep;
        vcpu.wait.0 = vcpu.wait.0.wrapping_add(now.since(vcpu.since).0);
        let (index, leaf) = (vcpu.entity, vcpu.leaf);
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(entity) = self.entities.get_mut(usize::from(index)) {
            entity.waiting.clear(leaf);
        }
        self.sleep_if_done(index);
    }

    /// Lowers the services that order the vCPUs of a guest, before they leave their range. This happens once in years of running.
    #[cold]
    pub(super) fn lower_orders(&mut self, index: u16) {
        let Some(entity) = self.entities.get_mut(usize::from(index)) else { return };
        let back = entity.order_floor.0;
        entity.order_floor = Ticks(0);
        for slot in &entity.members {
            let Some(vcpu) = self.vcpus.get_mut(usize::from(*slot)).filter(|vcpu| vcpu.entity == index)
            else {
                continue;
            };
            vcpu.order.0 = vcpu.order.0.saturating_sub(back);
            if vcpu.state == State::Waiting {
                entity.waiting.put(vcpu.word());
            }
        }
    }
}
