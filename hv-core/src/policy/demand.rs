//! What guests say, taken once and clamped; for guests that say nothing, what their behaviour says.

use crate::base::time::{Frequency, Tsc};
use crate::policy::sched::{Params, SliceRequest};
use crate::policy::vcpu_shared::{SWITCHES_TOLD, VcpuShared};
use core::sync::atomic::Ordering::Relaxed;
use pv_abi::demand::{self, DemandFlags, Reason, State, WaitFor, word};

/// Two steps: a quarter of the usual request.
const LOCK_CLASS: u8 = 2;
/// A deadline further ahead than this is ignored, in ns.
const HORIZON_NS: u64 = 1_000_000_000;

/// The request a vCPU makes when it wakes or yields. Without a registered row, or with a foreign cookie in it, the
/// default: nobody gains by saying nothing.
#[inline]
pub fn request(vcpu: &VcpuShared, params: &Params, tsc: Frequency, now: Tsc) -> SliceRequest {
    let default = SliceRequest::default_for(params);
    let state = State::unpack(vcpu.demand[word::STATE].load(Relaxed));
    // Without a registration the cookie is one that no row can carry. A row that is written here needs none.
    if u32::from(state.cookie) != vcpu.cookie() && vcpu.cookie() != SWITCHES_TOLD {
        return default;
    }
    let wish = demand::Request::unpack(vcpu.demand[word::REQUEST].load(Relaxed));
    let deadline = vcpu.demand[word::DEADLINE].load(Relaxed);
    if u64::from(wish.budget_ns) | u64::from(state.latency_class) | deadline == 0 {
        return default;
    }
    clamp(params, tsc, wish.budget_ns, state.latency_class, deadline, now)
}

/// What a vCPU does that has no row of its own to say so, as its exits tell (DESIGN §5's synthetic row).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// It runs.
    Running,
    /// HLT with interrupts on: nothing to do.
    Idle,
    /// HLT with interrupts off: it waits for a lock, and for a kick of who has it.
    WaitsForLock,
    /// PAUSE while others wait.
    Spins,
}

/// Writes that into the row, which is not mapped to its guest. Who was kicked for a lock has an earlier turn, since others wait for
/// it next; the share is the same. Timers are not in the row: they are queued as they are set.
pub fn note(vcpu: &VcpuShared, seen: Seen) {
    let (flags, latency_class) = match seen {
        Seen::Running => (DemandFlags::empty(), 0),
        Seen::Idle => (DemandFlags::IDLE, 0),
        Seen::WaitsForLock => (DemandFlags::LOCK_WAIT, LOCK_CLASS),
        Seen::Spins => (DemandFlags::POLLING, 0),
    };
    let state = State { runnable: 0, flags, latency_class, cookie: 0 };
    vcpu.demand[word::STATE].store(state.pack(), Relaxed);
    vcpu.demand[word::WAIT_FOR].store(0, Relaxed);
}

/// Writes there whom a vCPU gives the CPU to, as it was seen: what it waits for is an answer.
pub fn note_wait(vcpu: &VcpuShared, target: &VcpuShared) {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is noted")]
    let seq = target.dispatch_seq() as u32;
    let vcpu_plus_one = target.index().0.saturating_add(1);
    let wait = WaitFor { vcpu_plus_one, reason: Reason::ACKNOWLEDGE, seq };
    vcpu.demand[word::WAIT_FOR].store(wait.pack(), Relaxed);
}

/// The request that the clamped words stand for. A latency class halves the length once a step, three times at most.
fn clamp(
    params: &Params,
    tsc: Frequency,
    budget_ns: u32,
    latency_class: u8,
    deadline: u64,
    now: Tsc,
) -> SliceRequest {
    let default = SliceRequest::default_for(params);
    let length = if budget_ns == 0 { default.length } else { tsc.ticks(u64::from(budget_ns)) };
    let length = crate::base::time::Ticks(length.0 >> latency_class.min(3));
    let length = length.clamp(params.min_request, params.max_request);
    let ahead = deadline > now.0 && deadline - now.0 <= tsc.ticks(HORIZON_NS).0;
    SliceRequest { length, deadline: ahead.then_some(Tsc(deadline)) }
}

/// When the vCPU wants to be woken, as a guest TSC value; 0 = never. Its row counts only with the right cookie.
#[inline]
pub fn next_wake(vcpu: &VcpuShared) -> u64 {
    vcpu.demand[word::NEXT_WAKE].load(Relaxed)
}

/// Whether the vCPU's row carries the cookie that REGISTER gave it.
pub fn is_valid(vcpu: &VcpuShared) -> bool {
    let cookie = State::unpack(vcpu.demand[word::STATE].load(Relaxed)).cookie;
    u32::from(cookie) == vcpu.cookie()
}

/// Whether the vCPU says that it is inside a critical section.
pub fn is_critical(vcpu: &VcpuShared) -> bool {
    is_valid(vcpu) && vcpu.demand[word::CRITICAL].load(Relaxed) & 0xff != 0
}
