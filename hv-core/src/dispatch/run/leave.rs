//! A vCPU leaves the CPU: what its last exit asked for.

use super::{Cpu, NOBODY};
use crate::base::error::KillReason;
use crate::base::hardware::{GuestRam, Hardware};
use crate::base::id::VcpuIndex;
use crate::base::time::Tsc;
use crate::dispatch::core::Core;
use crate::dispatch::entry;
use crate::dispatch::next::{Next, StartRequest};
use crate::dispatch::vcpu::{Rest, Vcpu};
use crate::dispatch::vt::{Processor, Start, VirtualCpu};
use crate::policy::demand;
use crate::policy::publish::{Life, NO_COOKIE, VcpuShared};
use crate::policy::sched::Slot;
use crate::policy::trace::{GuestCounters, Record};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

impl<P: Processor, H: Hardware, R: GuestRam> Cpu<P, H, R> {
    /// Does what `next` asks for. The vCPU in `slot` was on the CPU until now.
    #[inline]
    pub(super) fn leave(&mut self, slot: Slot, next: Next, now: Tsc) {
        let Some(shared) = self.core.shared.get(usize::from(slot.0)).copied() else { return };
        match next {
            Next::Resume => {}
            Next::Yield => {
                if let Some(vcpu) = self.vcpus.get_mut(usize::from(slot.0)) {
                    yield_cpu(vcpu, &mut self.core, now);
                }
            }
            Next::Block => self.block(slot, shared, now),
            Next::Reschedule => self.reschedule(shared, now),
            Next::YieldTo { target } => {
                if let Some((target, vcpu)) =
                    self.peer(shared, target).zip(self.vcpus.get_mut(usize::from(slot.0)))
                {
                    off(vcpu, &mut self.core, now);
                    let _ = self.core.queue.yield_to(target.slot, now);
                }
            }
            Next::Start(set) => {
                let starter = self.vcpus.get_mut(usize::from(slot.0));
                let Some(request) = starter.and_then(|starter| starter.start_request.take()) else { return };
                for index in set {
                    if let Some(target) = self.peer(shared, index) {
                        self.start(target, request);
                    }
                }
            }
            Next::Stop(set) => {
                for index in set {
                    if let Some(target) = self.peer(shared, index) {
                        self.stop(target);
                    }
                }
                self.end_if_stopped(slot);
            }
            Next::Mark { id, value } => self.mark(shared, id, value),
            Next::End(ending) => self.end(shared.id.guest, ending),
            Next::Kill(reason) => self.kill(slot, reason),
        }
    }

    fn peer(&self, of: &VcpuShared, index: VcpuIndex) -> Option<&'static VcpuShared> {
        let guest = self.core.guests.get(usize::from(of.id.guest.0))?;
        guest.vcpu(u64::from(index.0))
    }

    /// An interrupt came. At the end of a slice a vCPU in a critical section may get one short extension; otherwise the
    /// queue decides.
    fn reschedule(&mut self, shared: &'static VcpuShared, now: Tsc) {
        self.core.poll_input();
        self.wake_due(now);
        if now < self.core.queue.slice_end() {
            return;
        }
        // One that never sleeps nor yields says here how long its next turns should be.
        self.core.queue.ask(demand::request(shared, &self.core.params, self.core.tsc, now));
        if demand::is_critical(shared)
            && let Some(until) = self.core.queue.extend(now)
        {
            shared.publish_grant(until.0);
            return;
        }
        let Some(vcpu) = self.vcpus.get_mut(usize::from(shared.slot.0)) else { return };
        preempt(vcpu, &mut self.core, now);
    }

    /// Puts a vCPU to sleep, unless something is pending that would wake it. It is published as off CPU before that is
    /// looked at: whoever posts afterwards sees it off and wakes it.
    fn block(&mut self, slot: Slot, shared: &'static VcpuShared, now: Tsc) {
        let Some(vcpu) = self.vcpus.get_mut(usize::from(slot.0)) else { return };
        off(vcpu, &mut self.core, now);
        if vcpu.rest == Rest::Blocked || demand::next_wake(shared) != vcpu.seen_wake {
            entry::look_at_wake(vcpu, &mut self.core);
        }
        if must_wake(vcpu) {
            return;
        }
        shared.set_life(Life::Blocked);
        self.core.queue.block_current(now);
    }

    /// Starts a stopped vCPU.
    pub(super) fn start(&mut self, target: &'static VcpuShared, request: StartRequest) {
        let Some(vcpu) = self.vcpus.get_mut(usize::from(target.slot.0)) else { return };
        if target.life() != Life::Stopped {
            return;
        }
        vcpu.begin(match request {
            StartRequest::Copy { control, entry, stack, argument } => {
                Start::Copy { control, entry, stack, argument }
            }
            StartRequest::Real(vector) => Start::Real { vector },
        });
        // A processor that waits for its start-up takes nothing in; VCPU_START keeps what was sent (docs/src/abi.md, IPI).
        if let StartRequest::Real(_) = request {
            target.drop_interrupts();
        }
        self.reload(target.slot);
        target.set_life(Life::Runnable);
        self.core.enqueue(target, self.core.hardware.now());
    }

    /// A vCPU's FPU state in memory changed: what the processor holds of it is stale.
    pub(super) fn reload(&mut self, slot: Slot) {
        if self.loaded == slot {
            self.loaded = NOBODY;
        }
    }

    /// Stops a vCPU wherever it is, and cancels its timer, events and grants.
    pub(super) fn stop(&mut self, target: &'static VcpuShared) {
        let now = self.core.hardware.now();
        if self.core.queue.current() == Some(target.slot) {
            target.publish_off();
        }
        self.core.queue.stop(target.slot, now);
        self.core.timers.set(target.slot, Tsc::NEVER);
        target.forget();
        target.set_life(Life::Stopped);
        if let Some(vcpu) = self.vcpus.get_mut(usize::from(target.slot.0)) {
            vcpu.lapic.init();
        }
    }

    /// A guest all of whose vCPUs are stopped will never do anything again.
    fn end_if_stopped(&mut self, slot: Slot) {
        let Some(vcpu) = self.vcpus.get(usize::from(slot.0)) else { return };
        if vcpu.guest.vcpus.iter().all(|vcpu| vcpu.life() == Life::Stopped) {
            self.kill(slot, KillReason::AllStopped);
        }
    }

    /// Notes a mark with everybody's counters.
    fn mark(&mut self, shared: &VcpuShared, id: u64, value: u64) {
        if !self.core.has_room_for_mark(shared.id.guest) {
            return;
        }
        let guests: Vec<_> = self.core.guests.iter().map(|guest| self.counters(guest.id)).collect();
        let mut cpu = self.core.counters.clone();
        // Each exit ended one VMRUN: counting both would cost the exit path an instruction for nothing.
        cpu.world_switches = guests.iter().flat_map(|guest| guest.exits).sum();
        let tsc = self.core.hardware.now().0;
        self.core.record(Record::Mark {
            guest: shared.id.guest,
            vcpu: shared.id.index,
            id,
            value,
            tsc,
            cpu,
            guests,
        });
    }

    /// What a guest has caused: the sum over its vCPUs.
    pub(super) fn counters(&self, guest: crate::base::id::GuestId) -> GuestCounters {
        let mut sum = GuestCounters::default();
        for vcpu in self.vcpus.iter().filter(|vcpu| vcpu.guest.id == guest) {
            sum.add(&vcpu.counters);
            sum.switches += self.core.queue.usage(vcpu.shared.slot).switches;
        }
        sum
    }
}

/// The vCPU gives the CPU to whoever waits.
#[inline]
pub(super) fn yield_cpu<S, H: Hardware, R: GuestRam>(vcpu: &mut Vcpu<S, R>, core: &mut Core<H, R>, now: Tsc) {
    off(vcpu, core, now);
    let request = demand::request(vcpu.shared, &core.params, core.tsc, now);
    core.queue.yield_current(request, now);
}

/// A vCPU loses the CPU although it would go on.
#[cold]
pub(super) fn preempt<S, H: Hardware, R: GuestRam>(vcpu: &mut Vcpu<S, R>, core: &mut Core<H, R>, now: Tsc) {
    vcpu.counters.preempted_in_critical += u64::from(demand::is_critical(vcpu.shared));
    off(vcpu, core, now);
}

/// Publishes that a vCPU is off CPU, with what it got so far when that was not published a moment ago.
#[inline]
fn off<S, H: Hardware, R: GuestRam>(vcpu: &mut Vcpu<S, R>, core: &mut Core<H, R>, now: Tsc) {
    vcpu.shared.publish_off();
    if now >= vcpu.publish_after && vcpu.shared.cookie() != NO_COOKIE {
        publish_statistics(vcpu, core, now);
    }
}

#[cold]
fn publish_statistics<S, H: Hardware, R: GuestRam>(vcpu: &mut Vcpu<S, R>, core: &mut Core<H, R>, now: Tsc) {
    vcpu.publish_after = now + core.statistics_period;
    core.queue.charge(now);
    let usage = core.queue.usage(vcpu.shared.slot);
    let steal = core.ns(usage.wait.0);
    let (peers, lag) = if vcpu.guest.shows_waiters() { (steal, usage.lag) } else { (0, 0) };
    let lag_ns = core.ns(lag.unsigned_abs()).cast_signed() * lag.signum();
    let (run, lost) = (core.ns(usage.run.0), vcpu.counters.preempted_in_critical);
    vcpu.shared.publish_statistics(&[run, steal, peers, 0, 0, 0, lag_ns.cast_unsigned(), lost]);
    vcpu.shared.publish_exits(&vcpu.counters.exits);
}

/// Whether something is pending that ends a vCPU's rest at once.
fn must_wake<S: VirtualCpu, R: GuestRam>(vcpu: &mut Vcpu<S, R>) -> bool {
    let attention = vcpu.shared.attention.load(Relaxed) != 0;
    match vcpu.rest {
        Rest::Awake => true,
        Rest::Halted => attention,
        Rest::Blocked => {
            let wake = attention
                || vcpu.shared.pending_events() & vcpu.block_mask != 0
                || vcpu.shared.highest_posted().is_some(); // came while IF was clear
            if wake && !attention {
                vcpu.rest = Rest::Awake;
            }
            wake
        }
    }
}
