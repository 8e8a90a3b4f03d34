//! A vCPU leaves the CPU: the processor does what the vCPU's last exit asked for.

use super::Cpu;
use crate::base::control::Start;
use crate::base::hardware::Hardware;
use crate::base::id::VcpuIndex;
use crate::base::time::Tsc;
use crate::exit::cpu::CpuContext;
use crate::exit::hypercall;
use crate::exit::input;
use crate::exit::kvm;
use crate::exit::timers;
use crate::guest::next::{Next, StartAt};
use crate::guest::platform::Platform;
use crate::guest::seam::CpuRegisters;
use crate::guest::vcpu::{Rest, Vcpu};
use crate::policy::demand;
use crate::policy::presence::Life;
use crate::policy::sched::Slot;
use crate::policy::trace::Record;
use crate::policy::vcpu_shared::{NO_COOKIE, VcpuShared};
use alloc::vec::Vec;

/// The initial state of a vCPU that `starter` starts.
fn start<P: Platform>(starter: &Vcpu<P>, at: StartAt) -> Start {
    match at {
        StartAt::Copy { entry, stack, argument } => {
            Start::Copy { control: starter.state.control(), entry, stack, arguments: [argument, 0] }
        }
        StartAt::Real(vector) => Start::Real { vector },
    }
}

impl<P: Platform> Cpu<P> {
    /// Does what `next` asks for, except for a yield, which has a path of its own; returns the moment up to which time is
    /// accounted for. The vCPU in `slot` was on the CPU until now.
    #[inline]
    pub(super) fn leave(&mut self, slot: Slot, next: Next, now: Tsc) -> Tsc {
        let Some(shared) = self.core.system.vcpu(slot) else { return now };
        match next {
            Next::Resume | Next::Yield => {}
            Next::Again => {
                if let Some(vcpu) = self.vcpus.get_mut(usize::from(slot.0)).and_then(Option::as_deref_mut) {
                    yield_coldly(vcpu, &mut self.core, now);
                }
            }
            Next::Block => self.block(slot, shared, now),
            Next::Reschedule => return self.reschedule(shared, now),
            Next::YieldTo { target } => self.donate(slot, self.peer(shared, target), now),
            Next::Start { .. }
            | Next::Stop(_)
            | Next::Park
            | Next::Mark { .. }
            | Next::End(_)
            | Next::Kill(_) => {
                return self.at_cost_of(shared, now, |cpu, now| cpu.act(slot, shared, next, now));
            }
        }
        now
    }

    /// Handles the values of `next` that take long, and that may take the vCPU out of this processor.
    #[cold]
    fn act(&mut self, slot: Slot, shared: &'static VcpuShared, next: Next, now: Tsc) {
        match next {
            Next::Start { targets, at } => {
                let Some(start) = self.vcpu(slot).map(|starter| start(starter, at)) else { return };
                let mut refused = false;
                for index in targets {
                    if let Some(target) = self.peer(shared, index) {
                        refused |= !self.start(target, start, now);
                    }
                }
                if refused && let Some(starter) = self.vcpu(slot) {
                    hypercall::refuse_start(starter, at);
                }
            }
            Next::Stop(set) => {
                for index in set {
                    if let Some(target) = self.peer(shared, index) {
                        self.stop(target, now);
                    }
                }
            }
            Next::Park => self.park(shared, now),
            Next::Mark { id, value } => self.mark(shared, id, value),
            Next::End(ending) => {
                if let Some(guest) = self.core.system.guest(shared.id.guest) {
                    self.end(guest, ending, now);
                }
            }
            Next::Kill(reason) => self.kill(slot, reason, now),
            Next::Resume
            | Next::Reschedule
            | Next::Yield
            | Next::Again
            | Next::YieldTo { .. }
            | Next::Block => {}
        }
    }

    fn peer(&self, of: &VcpuShared, index: VcpuIndex) -> Option<&'static VcpuShared> {
        self.core.system.guest(of.id.guest)?.vcpu(u64::from(index.0))
    }

    /// Yields the CPU to another vCPU of the same guest.
    fn donate(&mut self, slot: Slot, target: Option<&'static VcpuShared>, now: Tsc) {
        let vcpu = self.vcpus.get_mut(usize::from(slot.0)).and_then(Option::as_deref_mut);
        if let Some((target, vcpu)) = target.zip(vcpu) {
            off(vcpu, &mut self.core, now);
            let _ = self.core.queue.yield_to(target.slot, now);
        }
    }

    /// Handles a host interrupt. At the end of a slice a vCPU in a critical section may get one short extension; otherwise
    /// the queue decides.
    fn reschedule(&mut self, shared: &'static VcpuShared, mut now: Tsc) -> Tsc {
        input::poll(&mut self.core);
        if self.core.timers.first() <= now {
            now = self.heed_timers(shared, now);
        }
        if now < self.core.queue.slice_end() {
            return now;
        }
        // A vCPU that neither sleeps nor yields requests the length of its next turns here.
        self.core.queue.ask(demand::request(shared, &self.core.params, self.core.tsc, now));
        if demand::is_critical(shared)
            && let Some(until) = self.core.queue.extend(now)
        {
            shared.publish_grant(until.0);
            return now;
        }
        if let Some(vcpu) = self.vcpus.get_mut(usize::from(shared.slot.0)).and_then(Option::as_deref_mut) {
            preempt(vcpu, &mut self.core, now);
        }
        now
    }

    /// Handles due timers, which may be why the running vCPU was interrupted. If the first timer is another guest's, the
    /// running vCPU is not interrupted for other guests for a while. The time before is not charged to the timer's guest: the
    /// running vCPU's own work outside of guest mode may have taken it.
    fn heed_timers(&mut self, shared: &VcpuShared, now: Tsc) -> Tsc {
        if self.core.first_timer_owner() != Some(shared.id.guest) {
            self.core.shared.be_quiet(now + self.core.quiet);
        }
        self.wake_due(now)
    }

    /// Puts a vCPU to sleep, unless something is pending that would wake it. This processor publishes that the vCPU sleeps
    /// and is off CPU before it looks for pending work: a sender that posts afterwards sees that, and wakes the vCPU.
    fn block(&mut self, slot: Slot, shared: &'static VcpuShared, now: Tsc) {
        let Some(vcpu) = self.vcpus.get_mut(usize::from(slot.0)).and_then(Option::as_deref_mut) else {
            return;
        };
        shared.presence.fall_asleep();
        off(vcpu, &mut self.core, now);
        if vcpu.rest == Rest::Blocked || demand::next_wake(shared) != vcpu.seen_wake {
            timers::refresh_wake(vcpu, &mut self.core);
        }
        if must_wake(vcpu) {
            shared.set_life(Life::Runnable);
            return;
        }
        self.core.queue.block_current(now);
    }

    /// Records a mark with the counters of all guests and processors.
    fn mark(&mut self, shared: &VcpuShared, id: u64, value: u64) {
        let system = self.core.system;
        let cpus = system.cpu_table.iter().count();
        if !system.telemetry.lock().has_room_for_mark(shared.id.guest, system.guests.len(), cpus) {
            return;
        }
        let guests: Vec<_> = system.guests.iter().map(|guest| system.counters(guest)).collect();
        let cpus: Vec<_> = system.cpu_table.iter().map(|(_, line)| line.tally.counters()).collect();
        let tsc = self.core.hardware.now().0;
        let (guest, vcpu) = (shared.id.guest, shared.id.index);
        system.telemetry.lock().keep(Record::Mark { guest, vcpu, id, value, tsc, cpus, guests });
    }
}

/// The vCPU yields the CPU to the vCPUs that wait for it.
#[inline(always)]
pub(super) fn yield_cpu<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>, now: Tsc) {
    off(vcpu, core, now);
    let request = demand::request(vcpu.shared, &core.params, core.tsc, now);
    core.queue.yield_current(request, now);
}

/// [`yield_cpu`] for rare cases, out of line.
#[cold]
fn yield_coldly<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>, now: Tsc) {
    yield_cpu(vcpu, core, now);
}

/// The vCPU loses the CPU although it could go on.
#[cold]
pub(super) fn preempt<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>, now: Tsc) {
    vcpu.shared.tally.preempted_in_critical.add(u64::from(demand::is_critical(vcpu.shared)));
    off(vcpu, core, now);
}

/// Publishes that a vCPU is off CPU, and before that its statistics if they are due. Those are the last access to the guest's
/// memory: a vCPU that is off CPU has let go of it (I-9).
#[inline]
fn off<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>, now: Tsc) {
    if now >= vcpu.publish_after && vcpu.shared.cookie() != NO_COOKIE {
        publish_statistics(vcpu, core, now);
    }
    vcpu.shared.publish_off();
}

#[cold]
fn publish_statistics<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>, now: Tsc) {
    if vcpu.guest.is_kvm() {
        return kvm::steal::leave(vcpu);
    }
    vcpu.publish_after = now + core.statistics_period;
    core.queue.charge(now);
    let usage = core.queue.usage(vcpu.shared.slot);
    let steal = core.ns(usage.wait.0);
    let (peers, lag) = if vcpu.guest.shows_waiters() { (steal, usage.lag) } else { (0, 0) };
    let lag_ns = core.ns(lag.unsigned_abs()).cast_signed() * lag.signum();
    let (run, lost) = (core.ns(usage.run.0), vcpu.shared.tally.preempted_in_critical.get());
    vcpu.shared.publish_statistics(&[run, steal, peers, 0, 0, 0, lag_ns.cast_unsigned(), lost]);
    vcpu.shared.publish_exits();
}

/// Whether something is pending that ends a vCPU's rest at once.
fn must_wake<P: Platform>(vcpu: &mut Vcpu<P>) -> bool {
    let attention = !vcpu.shared.attention().is_empty();
    match vcpu.rest {
        Rest::Awake => true,
        Rest::Halted => attention,
        Rest::Blocked => {
            let wake = attention
                || vcpu.shared.pending_events() & vcpu.block_mask != 0
                || vcpu.shared.posted.highest().is_some(); // came while IF was clear
            if wake && !attention {
                vcpu.rest = Rest::Awake;
            }
            wake
        }
    }
}
