//! What a checked call does. Answers a code and a value, and says what happens next; it cannot fail, though it may find
//! that the moment has passed, or has not come ([`Next::Again`]).

use super::decode::Hypercall;
use crate::base::hardware::{GuestRam, Hardware};
use crate::exit::ballooning;
use crate::exit::before_entry;
use crate::exit::channel;
use crate::exit::cpu::CpuContext;
use crate::exit::hypercall::console;
use crate::guest::guest::{WINDOW_BASE, WINDOW_PAGES};
use crate::guest::next::{Next, StartRequest, VcpuSet};
use crate::guest::platform::Platform;
use crate::guest::seam::VirtualCpu;
use crate::guest::vcpu::{Rest, Vcpu};
use crate::policy::presence::{Life, attention};
use crate::policy::vcpu_shared::VcpuShared;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use pv_abi::call::{Code, Info, Stat, VcpuState};
use pv_abi::status::word;

type Answer = (Code, u64, Next);

const fn ok(value: u64) -> Answer {
    (Code::OK, value, Next::Resume)
}

/// Acts.
#[inline]
pub fn commit<P: Platform>(call: Hypercall, vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Answer {
    match call {
        Hypercall::Info(item) => info(item, vcpu, core),
        Hypercall::Register { event_vector } => {
            let cookie = core.system.new_cookie();
            vcpu.shared.set_cookie(u32::from(cookie));
            vcpu.event_vector = event_vector;
            ok(u64::from(cookie))
        }
        Hypercall::Map { frames, writable, at } => {
            let placed = vcpu.guest.place(frames, writable, at);
            (if placed { Code::OK } else { Code::BAD_ADDRESS }, 0, Next::Resume)
        }
        Hypercall::Unregister => {
            vcpu.shared.unregister();
            vcpu.event_vector = 0;
            before_entry::refresh_wake(vcpu, core);
            ok(0)
        }
        Hypercall::Block { mask } => {
            vcpu.rest = Rest::Blocked;
            vcpu.block_mask = mask;
            (Code::OK, 0, Next::Block)
        }
        Hypercall::Yield => (Code::OK, 0, if core.queue.wanted() { Next::Yield } else { Next::Resume }),
        Hypercall::YieldTo { target, seq } => yield_to(vcpu, core, target, seq),
        Hypercall::Kick(target) => {
            target.request_attention(attention::EVENT);
            core.wake(target, vcpu.guest.id, core.hardware.now());
            ok(0)
        }
        Hypercall::Arm => {
            before_entry::refresh_wake(vcpu, core);
            ok(vcpu.shared.status[word::ARMED_UNTIL].load(Relaxed))
        }
        Hypercall::Ring { channel } => (channel::ring(vcpu.guest, core, channel), 0, Next::Resume),
        Hypercall::Bind { channel: number, vcpu: index, event } => {
            if let Some(end) = vcpu.guest.channels.get(usize::from(number)) {
                end.bound.store(channel::binding(index.0, event), SeqCst);
            }
            ok(0)
        }
        Hypercall::Query { channel } => ok(channel::query(vcpu.guest, core, channel)),
        Hypercall::Interrupt { target, vector } => {
            target.post_interrupt(vector);
            core.wake(target, vcpu.guest.id, core.hardware.now());
            ok(0)
        }
        Hypercall::Nmi(target) => {
            target.request_attention(attention::NMI);
            core.wake(target, vcpu.guest.id, core.hardware.now());
            ok(0)
        }
        Hypercall::Stats { item, vcpu: target } => ok(statistic(item, target, core)),
        Hypercall::ConsoleWrite { at, len } => console::write(vcpu.guest, core, at, len),
        Hypercall::ConsoleRead { at, len } => console::read(vcpu.guest, at, len),
        Hypercall::ConsoleFlush => console::flush(vcpu.guest, core),
        Hypercall::Give { first, count } => {
            let (code, waiting) = ballooning::give(vcpu.guest, vcpu.shared, core, (first, count));
            (code, waiting, Next::Resume)
        }
        Hypercall::Take { block } => {
            let (code, left) = ballooning::take(vcpu.guest, block, core.system);
            (code, left, Next::Resume)
        }
        Hypercall::Given => ok(ballooning::given(vcpu.guest)),
        Hypercall::Start { target, entry, stack, argument } => {
            let control = vcpu.state.control();
            let start = StartRequest::Copy { control, entry, stack, argument };
            vcpu.start_request = Some(start);
            // BAD_STATE is for whoever tries it to find (`refuse_start`).
            (Code::OK, 0, Next::Start(VcpuSet::one(target.index())))
        }
        Hypercall::Stop(target) => (Code::OK, 0, Next::Stop(VcpuSet::one(target.index()))),
        Hypercall::State(target) => ok(match target.life() {
            Life::Stopped => VcpuState::STOPPED.0,
            Life::Runnable => VcpuState::RUNNABLE.0,
            Life::Blocked => VcpuState::BLOCKED.0,
        }),
        Hypercall::Shutdown(ending) => (Code::OK, 0, Next::End(ending)),
        Hypercall::Mark { id, value } => (Code::OK, 0, Next::Mark { id, value }),
    }
}

fn info<P: Platform>(item: Info, vcpu: &Vcpu<P>, core: &CpuContext<P>) -> Answer {
    ok(match item {
        Info::VERSION => u64::from(pv_abi::VERSION.packed()),
        Info::FEATURES => u64::from(vcpu.guest.features().bits()),
        Info::WINDOW_BASE => WINDOW_BASE,
        Info::WINDOW_PAGES => WINDOW_PAGES,
        Info::TSC_KHZ => core.tsc.khz(),
        Info::VCPUS => u64::from(vcpu.guest.vcpu_count()),
        Info::VCPU => u64::from(vcpu.shared.index().0),
        Info::WALL_NS => core.system.wall_ns,
        Info::CHANNELS => vcpu.guest.channels.len() as u64,
        Info::MEMORY_BLOCKS => vcpu.guest.ram.block_count(),
        Info::GENERATION => vcpu.guest.generation.load(Relaxed),
        _ => return (Code::BAD_ARGUMENT, 0, Next::Resume),
    })
}

/// Gives the CPU to `target` if it was preempted just as the caller saw it: off CPU, and not dispatched since. One that
/// waits for another processor is asked for, and may be here the next time.
fn yield_to<P: Platform>(
    vcpu: &Vcpu<P>,
    core: &mut CpuContext<P>,
    target: &'static VcpuShared,
    seq: u64,
) -> Answer {
    let current = target.dispatch_seq();
    let stale = current != seq || current & 1 != 0 || target.life() != Life::Runnable;
    if stale || target.index() == vcpu.shared.index() {
        return (Code::STALE, 0, Next::Resume);
    }
    if target.holder() != core.cpu {
        core.pull(target);
        return (Code::STALE, 0, Next::Resume);
    }
    (Code::OK, 0, Next::YieldTo { target: target.index() })
}

/// Where the target is with another processor, times are as old as its statistics in the status table: 1 ms at most.
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
