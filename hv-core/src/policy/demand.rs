//! Guests' scheduling demands: the hypervisor reads a demand row's words once and clamps them. For a guest that has no demand row, it
//! fills the row from the guest's behaviour.

use crate::base::time::{Frequency, Tsc};
use crate::policy::sched::{Params, SliceRequest};
use crate::policy::vcpu_shared::{SWITCHES_TOLD, VcpuShared};
use core::sync::atomic::Ordering::Relaxed;
use pv_abi::demand::{self, DemandFlags, Reason, State, WaitFor, word};

/// Latency class of a vCPU that waits for a lock: two steps, which make a quarter of the default request.
const LOCK_CLASS: u8 = 2;
/// The hypervisor ignores a deadline further ahead than this, in ns.
const HORIZON_NS: u64 = 1_000_000_000;

/// The request that a vCPU makes when it wakes or yields. It is the default request if the row is not registered or has a foreign
/// cookie, so that no guest gains by leaving its demand out.
#[inline]
pub fn request(vcpu: &VcpuShared, params: &Params, tsc: Frequency, now: Tsc) -> SliceRequest {
    let default = SliceRequest::default_for(params);
    let state = State::unpack(vcpu.demand[word::STATE].load(Relaxed));
    // An unregistered vCPU has a cookie that no row can carry. A row that the hypervisor writes by `note` needs no cookie.
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

/// The activity of a vCPU without a demand row of its own, as its exits show it (DESIGN §5's synthetic row).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The vCPU runs.
    Running,
    /// HLT with interrupts on: the vCPU is idle.
    Idle,
    /// HLT with interrupts off: the vCPU is waiting for a lock; the holder will kick it.
    WaitsForLock,
    /// PAUSE while other vCPUs wait for the CPU: the vCPU spins.
    Spins,
}

/// Writes `seen` into the vCPU's row, which is not mapped to its guest. A vCPU kicked for a lock runs earlier, with the same share,
/// because others are likely waiting for it. Timers are not in the row: they are queued when the guest sets them.
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

/// Notes in the vCPU's row that it gives the CPU to `target`, with the target's present dispatch sequence, and waits for its answer.
pub fn note_wait(vcpu: &VcpuShared, target: &VcpuShared) {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is noted")]
    let seq = target.dispatch_seq() as u32;
    let vcpu_plus_one = target.index().0.saturating_add(1);
    let wait = WaitFor { vcpu_plus_one, reason: Reason::ACKNOWLEDGE, seq };
    vcpu.demand[word::WAIT_FOR].store(wait.pack(), Relaxed);
}

/// Makes a request of the row's words, clamped. Each step of the latency class halves the length, three times at most.
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

/// The time at which the vCPU wants to be woken, as a guest TSC value; 0 = never. The caller checks [`is_valid`], too.
#[inline]
pub fn next_wake(vcpu: &VcpuShared) -> u64 {
    vcpu.demand[word::NEXT_WAKE].load(Relaxed)
}

/// Whether the vCPU's row carries the cookie that REGISTER gave it.
pub fn is_valid(vcpu: &VcpuShared) -> bool {
    let cookie = State::unpack(vcpu.demand[word::STATE].load(Relaxed)).cookie;
    u32::from(cookie) == vcpu.cookie()
}

/// Whether the vCPU's row, if it is valid, says that the vCPU is inside a critical section.
pub fn is_critical(vcpu: &VcpuShared) -> bool {
    is_valid(vcpu) && vcpu.demand[word::CRITICAL].load(Relaxed) & 0xff != 0
}
