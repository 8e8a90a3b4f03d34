//! Notifications between processors, and the migration of vCPUs.

use super::{Cpu, NOBODY};
use crate::base::hardware::Hardware;
use crate::base::id::{CpuId, CpuSet};
use crate::base::time::{Ticks, Tsc};
use crate::guest::platform::Platform;
use crate::guest::seam::Processor;
use crate::guest::vcpu::Vcpu;
use crate::policy::presence::{Attention, Life, Notification};
use crate::policy::sched::{EntityId, Slot};
use crate::policy::vcpu_shared::VcpuShared;
use alloc::boxed::Box;
use pv_abi::protocol::dispatch::is_on_cpu;

impl<P: Platform> Cpu<P> {
    /// Handles the notifications that other processors left here; returns when that was done. Each notification is charged to
    /// the guest that it is for, but the charge does not give the running guest its time back: where another guest runs, a
    /// guest whose notifications take long has the rest of them put off.
    #[cold]
    pub(super) fn take_notifications(&mut self, mut now: Tsc) -> Tsc {
        self.core.tally().notifications.add(1);
        let part = Ticks(self.core.quiet.0 / 10);
        let (mut enough, mut greedy, mut some_stay) = (now + part, None, false);
        for slot in self.core.mailbox().take() {
            let Some(shared) = self.core.system.vcpu(slot) else { continue };
            if greedy == Some(shared.id.guest) {
                self.core.mailbox().leave(slot);
                some_stay = true;
                continue;
            }
            now = self.at_cost_of(shared, now, |cpu, now| cpu.answer(shared, now));
            if now > enough && self.core.running().is_some_and(|runner| runner.id.guest != shared.id.guest) {
                (enough, greedy) = (now + part, Some(shared.id.guest));
            }
        }
        if some_stay {
            self.core.put_off_notifications(now);
        }
        // The processor that sees the last guest end asks every other one to look.
        self.over = !self.core.system.is_alive();
        now
    }

    /// Handles a notification for a vCPU that this processor holds, or is to hold.
    fn answer(&mut self, shared: &'static VcpuShared, now: Tsc) {
        let is_here = self.vcpu(shared.slot).is_some();
        match shared.presence.on_notification(self.core.cpu, is_here) {
            Notification::Mine => {}
            Notification::Gone => return,
            Notification::PickUp => {
                let begun = self.core.hardware.now();
                if let Some(vcpu) = self.parking.pick_up(shared) {
                    self.adopt(vcpu, now);
                    self.count_move(begun);
                }
                return;
            }
        }
        let waiting = shared.attention();
        if waiting.intersects(Attention::STOP) {
            self.park(shared, now);
        } else if !waiting.is_empty() {
            self.core.wake_here(shared, now);
        }
        if let Some(asker) = shared.take_asker()
            && asker != self.core.cpu
            && shared.allowed.has(asker)
            && self.core.queue.is_waiting(shared.slot)
        {
            self.send(shared, asker, now);
        }
    }

    /// Takes a vCPU out of this processor, whatever the vCPU's state; `None` if it is not here.
    pub(super) fn take_out(&mut self, slot: Slot, now: Tsc) -> Option<Box<Vcpu<P>>> {
        let mut vcpu = self.vcpus.get_mut(usize::from(slot.0))?.take()?;
        if self.loaded == slot {
            self.processor.switch_out(&mut vcpu.state);
            self.loaded = NOBODY;
            vcpu.note_hypervisor(self.left.1, self.left.0, now);
            self.left.0 = now;
        }
        self.processor.depart(&mut vcpu.state);
        if is_on_cpu(vcpu.shared.dispatch_seq()) {
            vcpu.shared.publish_off();
        }
        vcpu.timer = self.core.timers.get(slot);
        self.core.timers.set(slot, Tsc::NEVER);
        vcpu.departure = self.core.queue.detach(slot, now);
        self.count_present(vcpu.shared.id.guest);
        if self.is_movable(vcpu.shared) {
            self.core.set_movable(self.core.movable() - 1);
        }
        Some(vcpu)
    }

    /// Takes in a vCPU that was started, or that comes from another processor.
    pub(super) fn adopt(&mut self, mut vcpu: Box<Vcpu<P>>, now: Tsc) {
        let shared = vcpu.shared;
        let entity = EntityId(shared.id.guest.0);
        let guest = vcpu.guest;
        self.processor.arrive(&mut vcpu.state);
        let departure = core::mem::take(&mut vcpu.departure);
        let weight = self.weight_here(guest);
        self.core.queue.attach(shared.slot, entity, shared.index().0, weight, departure, now);
        // The number of the guest's vCPUs here changes its weight; and an entity that still owes time here comes back with
        // its former weight.
        self.count_present(guest.id);
        self.core.queue.set_weight(entity, self.weight_here(guest), now);
        self.core.timers.set(shared.slot, vcpu.timer);
        if self.is_movable(shared) {
            self.core.set_movable(self.core.movable() + 1);
        }
        if let Some(place) = self.vcpus.get_mut(usize::from(shared.slot.0)) {
            *place = Some(vcpu);
        }
        if shared.attention().intersects(Attention::STOP) {
            self.park(shared, now);
        } else if shared.life() == Life::Runnable {
            self.core.enqueue(shared, now);
        }
    }

    /// Whether a vCPU may run on a processor other than this one.
    fn is_movable(&self, shared: &VcpuShared) -> bool {
        shared.allowed.both(self.core.system.cpu_table.cpus()).0 & !CpuSet::one(self.core.cpu).0 != 0
    }

    /// Sends a vCPU that waits here to another processor.
    pub(super) fn send(&mut self, shared: &'static VcpuShared, to: CpuId, now: Tsc) {
        let begun = self.core.hardware.now();
        if let Some(vcpu) = self.take_out(shared.slot, now) {
            shared.tally.migrations.add(1);
            self.hand_over(vcpu, to);
            self.count_move(begun);
        }
    }

    /// Counts the time that a vCPU's departure or arrival has taken here.
    fn count_move(&self, since: Tsc) {
        self.core.tally().move_ticks.add(self.core.hardware.now().since(since).0);
    }

    /// Parks a vCPU for processor `to`, and notifies that processor.
    pub(super) fn hand_over(&mut self, vcpu: Box<Vcpu<P>>, to: CpuId) {
        let shared = vcpu.shared;
        self.parking.leave(vcpu);
        shared.presence.set_holder(to);
        self.core.post(shared, shared.id.guest);
    }
}
