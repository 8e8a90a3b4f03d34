//! Executes a checked call. That cannot fail, though the call may come too late, or too early ([`Outcome::Retry`]).

use super::decode::Hypercall;
use super::outcome::Outcome;
use crate::base::hardware::Hardware;
use crate::exit::ballooning;
use crate::exit::channel;
use crate::exit::cpu::CpuContext;
use crate::exit::hypercall::console;
use crate::exit::timers;
use crate::guest::next::{Next, StartAt, VcpuSet};
use crate::guest::platform::Platform;
use crate::guest::vcpu::{Rest, Vcpu};
use crate::policy::presence::{Attention, Life};
use crate::policy::vcpu_shared::VcpuShared;
use core::sync::atomic::Ordering::Relaxed;
use pv_abi::call::{Code, Stat, VcpuState};
use pv_abi::status::word;

/// Executes `call` for the vCPU that made it.
#[inline]
pub fn commit<P: Platform>(call: Hypercall, vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Outcome {
    match call {
        Hypercall::Register { event_vector } => register(vcpu, core, event_vector),
        Hypercall::Map { frames, writable, at } => {
            let placed = vcpu.guest.place(frames, writable, at);
            Outcome::code(if placed { Code::OK } else { Code::BAD_ADDRESS })
        }
        Hypercall::Unregister => unregister(vcpu, core),
        Hypercall::Block { mask } => {
            vcpu.rest = Rest::Blocked;
            vcpu.block_mask = mask;
            Outcome::Then(Next::Block)
        }
        Hypercall::YieldTo { target, seq } => yield_to(vcpu, core, target, seq),
        Hypercall::Kick(target) => {
            target.request_attention(Attention::EVENT);
            woken(vcpu, core, target)
        }
        Hypercall::Interrupt { target, vector } => {
            target.post_interrupt(vector);
            woken(vcpu, core, target)
        }
        Hypercall::Nmi(target) => {
            target.request_attention(Attention::NMI);
            woken(vcpu, core, target)
        }
        Hypercall::Arm => {
            timers::refresh_wake(vcpu, core);
            Outcome::ok(vcpu.shared.status[word::ARMED_UNTIL].load(Relaxed))
        }
        Hypercall::Ring { channel } => Outcome::code(channel::ring(vcpu.guest, core, channel)),
        Hypercall::Bind { channel, vcpu: index, event } => {
            channel::bind(vcpu.guest, channel, index, event);
            Outcome::ok(0)
        }
        Hypercall::Query { channel } => Outcome::ok(channel::query(vcpu.guest, core, channel)),
        Hypercall::Stats { item, vcpu: target } => Outcome::ok(statistic(item, target, core)),
        Hypercall::ConsoleWrite { at, len } => console::write(vcpu.guest, core, at, len),
        Hypercall::ConsoleRead { at, len } => console::read(vcpu.guest, at, len),
        Hypercall::ConsoleFlush => console::flush(vcpu.guest, core),
        Hypercall::Give { first, count } => {
            let (code, waiting) = ballooning::give(vcpu.guest, vcpu.shared, core, (first, count));
            Outcome::Done(code, waiting)
        }
        Hypercall::Take { block } => {
            let (code, left) = ballooning::take(vcpu.guest, block, core.system);
            Outcome::Done(code, left)
        }
        Hypercall::Given => Outcome::ok(ballooning::given(vcpu.guest)),
        // The processor finds BAD_STATE only when it starts the target (`refuse_start`).
        Hypercall::Start { target, entry, stack, argument } => {
            let at = StartAt::Copy { entry, stack, argument };
            Outcome::Then(Next::Start { targets: VcpuSet::one(target.index()), at })
        }
        Hypercall::Stop(target) => Outcome::Then(Next::Stop(VcpuSet::one(target.index()))),
        Hypercall::State(target) => Outcome::ok(state(target)),
        Hypercall::Shutdown(ending) => Outcome::Then(Next::End(ending)),
        Hypercall::Mark { id, value } => Outcome::Then(Next::Mark { id, value }),
    }
}

fn register<P: Platform>(vcpu: &mut Vcpu<P>, core: &CpuContext<P>, event_vector: u8) -> Outcome {
    let cookie = core.system.new_cookie();
    vcpu.shared.set_cookie(u32::from(cookie));
    vcpu.event_vector = event_vector;
    Outcome::ok(u64::from(cookie))
}

fn unregister<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Outcome {
    vcpu.shared.unregister();
    vcpu.event_vector = 0;
    timers::refresh_wake(vcpu, core);
    Outcome::ok(0)
}

/// Wakes `target`, which has something pending now, and answers OK.
#[inline]
fn woken<P: Platform>(vcpu: &Vcpu<P>, core: &mut CpuContext<P>, target: &'static VcpuShared) -> Outcome {
    core.wake(target, vcpu.guest.id, core.hardware.now());
    Outcome::ok(0)
}

fn state(target: &VcpuShared) -> u64 {
    match target.life() {
        Life::Stopped => VcpuState::STOPPED.0,
        Life::Runnable => VcpuState::RUNNABLE.0,
        Life::Blocked => VcpuState::BLOCKED.0,
    }
}

/// Gives the CPU to `target` if it is still preempted as the caller saw it: off CPU, and not dispatched since. If the target
/// waits on another processor, this processor asks for it; the target may be here at the next attempt.
fn yield_to<P: Platform>(
    vcpu: &Vcpu<P>,
    core: &mut CpuContext<P>,
    target: &'static VcpuShared,
    seq: u64,
) -> Outcome {
    let current = target.dispatch_seq();
    let stale = current != seq || current & 1 != 0 || target.life() != Life::Runnable;
    if stale || target.index() == vcpu.shared.index() {
        return Outcome::code(Code::STALE);
    }
    if target.holder() != core.cpu {
        core.pull(target);
        return Outcome::code(Code::STALE);
    }
    Outcome::Then(Next::YieldTo { target: target.index() })
}

/// The value of a statistic. If another processor holds the target, times are as old as the target's statistics in the status
/// table: 1 ms at most.
fn statistic<P: Platform>(item: Stat, vcpu: &VcpuShared, core: &mut CpuContext<P>) -> u64 {
    let (run_ns, steal_ns) = if vcpu.holder() == core.cpu {
        core.queue.charge(core.hardware.now());
        let usage = core.queue.usage(vcpu.slot);
        (core.ns(usage.run.0), core.ns(usage.wait.0))
    } else {
        vcpu.published_times()
    };
    match item {
        Stat::RUN_NS => run_ns,
        Stat::STEAL_NS => steal_ns,
        Stat::SWITCHES => vcpu.tally.switches.get(),
        Stat::EXITS => vcpu.tally.counters().exits.iter().sum(),
        Stat::PREEMPTED_IN_CRITICAL => vcpu.tally.preempted_in_critical.get(),
        _ => 0,
    }
}
