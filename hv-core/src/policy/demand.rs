//! What guests say, taken once and clamped; for guests that say nothing, what their behaviour says.

use crate::base::time::{Frequency, Tsc};
use crate::policy::publish::VcpuShared;
use crate::policy::sched::{Params, Request};
use core::sync::atomic::Ordering::Relaxed;
use pv_abi::demand::{self, State, word};

/// A deadline further ahead than this is ignored, in ns.
const HORIZON_NS: u64 = 1_000_000_000;

/// The request a vCPU makes when it wakes or yields. Without a registered row, or with a foreign cookie in it, the
/// default: nobody gains by saying nothing.
#[inline]
pub fn request(vcpu: &VcpuShared, params: &Params, tsc: Frequency, now: Tsc) -> Request {
    let default = Request::default_for(params);
    let state = State::unpack(vcpu.demand[word::STATE].load(Relaxed));
    // Without a registration the cookie is one that no row can carry.
    if u32::from(state.cookie) != vcpu.cookie() {
        return default;
    }
    let wish = demand::Request::unpack(vcpu.demand[word::REQUEST].load(Relaxed));
    let deadline = vcpu.demand[word::DEADLINE].load(Relaxed);
    if u64::from(wish.budget_ns) | u64::from(state.latency_class) | deadline == 0 {
        return default;
    }
    clamp(params, tsc, wish.budget_ns, state.latency_class, deadline, now)
}

/// The request that the clamped words stand for. A latency class halves the length once a step, three times at most.
fn clamp(
    params: &Params,
    tsc: Frequency,
    budget_ns: u32,
    latency_class: u8,
    deadline: u64,
    now: Tsc,
) -> Request {
    let default = Request::default_for(params);
    let length = if budget_ns == 0 { default.length } else { tsc.ticks(u64::from(budget_ns)) };
    let length = crate::base::time::Ticks(length.0 >> latency_class.min(3));
    let length = length.clamp(params.min_request, params.max_request);
    let ahead = deadline > now.0 && deadline - now.0 <= horizon(tsc);
    Request { length, deadline: ahead.then_some(Tsc(deadline)) }
}

const fn horizon(tsc: Frequency) -> u64 {
    tsc.ticks(HORIZON_NS).0
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
