//! A timer set by a store.
//!
//! ```text
//! guest: next_wake = when; COMPILER FENCE; load armed_until; earlier than that, or 0: call ARM
//! hypervisor, before every entry and at switch-out: load next_wake; set the timer; armed_until = next_wake
//! ```
//!
//! armed_until is a promise: "I look at next_wake again at this time at the latest". So whoever wants to be woken at that
//! time or later needs no call; one who wants it earlier, or was promised nothing, does. Only the pCPU that holds the vCPU
//! writes it, and only outside guest mode: an exit falls before the guest's store, between store and load, or after the
//! load, and nothing else can happen. Between: the hypervisor has seen the new next_wake. Before: the guest sees the new
//! promise. After: the promise that the guest saw ends in a look, which finds the new next_wake. The compiler fence keeps the
//! load behind the store; no CPU fence is needed, because an exit is serializing, and migration goes through a run-queue
//! lock. With the load first, an exit between the two may end the promise that the guest then relies on.
//!
//! Proven (`tests/loom_arm.rs`): with an expiry at any point of the guest's two instructions, and another exit at any
//! point, the timer of the hypervisor is set for the guest's new time or earlier, or has fired for it. Fails when the guest
//! loads first, and when the hypervisor promises what it read before.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use pv_abi::protocol::arm::{self, Arm, Wake};
//!
//! let (next_wake, armed_until) = (AtomicU64::new(0), AtomicU64::new(0));
//! let mut fired = 0;
//!
//! // Guest: nothing was promised yet, so the first timer takes a call.
//! assert_eq!(arm::arm(&next_wake, &armed_until, 1_000), Arm::Call);
//! // Hypervisor, in that call: sets its timer and promises to look at tick 1,000.
//! assert_eq!(arm::look(&next_wake, &armed_until, &mut fired, 10), Wake::At(1_000));
//! // Guest: a later timer is a store and no more.
//! assert_eq!(arm::arm(&next_wake, &armed_until, 1_500), Arm::Promised);
//! ```

use super::word::Word;
use core::sync::atomic::{Ordering, compiler_fence};

/// Whether a guest that stored next_wake has to call.
#[must_use = "without the call nobody looks in time"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arm {
    /// Call ARM: nobody will look as early as that.
    Call,
    /// Nothing to do: the hypervisor looks in time.
    Promised,
}

/// Guest: sets its earliest timer to `when_tsc`, in guest TSC ticks; 0 = none.
#[inline(always)]
pub fn arm<W: Word>(next_wake: &W, armed_until: &W, when_tsc: u64) -> Arm {
    next_wake.store(when_tsc);
    compiler_fence(Ordering::SeqCst);
    let promised = armed_until.load();
    if when_tsc == 0 || (promised != 0 && promised <= when_tsc) { Arm::Promised } else { Arm::Call }
}

/// What the hypervisor found in next_wake.
#[must_use = "a timer that is due has to be delivered, one to come has to be set"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// No timer, or one that has fired already.
    None,
    /// Set the timer, or queue the vCPU, for this time in guest TSC ticks; it is promised.
    At(u64),
    /// It is due: deliver it, once.
    Now,
}

/// Hypervisor: looks at next_wake, before every entry, at switch-out and when a timer it set expires; keeps the promise up
/// to date. `fired` is the value of next_wake that was delivered last, 0 at first. A value fires once; a different past
/// value fires at once; one look fires at most once.
#[inline]
pub fn look<W: Word>(next_wake: &W, armed_until: &W, fired: &mut u64, now_tsc: u64) -> Wake {
    let when = next_wake.load();
    let wake = if when > now_tsc {
        Wake::At(when)
    } else if when == 0 || when == *fired {
        Wake::None
    } else {
        *fired = when;
        Wake::Now
    };
    let promise = if when > now_tsc { when } else { 0 };
    armed_until.store(promise);
    wake
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    #[test]
    fn a_guest_calls_only_for_an_earlier_look_than_promised() {
        for (promised, when, expected) in [
            (0, 50, Arm::Call),
            (100, 50, Arm::Call),
            (100, 99, Arm::Call),
            (100, 100, Arm::Promised),
            (100, u64::MAX, Arm::Promised),
            (0, 0, Arm::Promised),
            (100, 0, Arm::Promised),
        ] {
            let (next_wake, armed_until) = (AtomicU64::new(7), AtomicU64::new(promised));
            assert_eq!(arm(&next_wake, &armed_until, when), expected, "promised={promised} when={when}");
            assert_eq!(Word::load(&next_wake), when);
        }
    }

    #[test]
    fn a_value_fires_once_and_a_different_past_value_at_once() {
        let (next_wake, armed_until) = (AtomicU64::new(100), AtomicU64::new(0));
        let mut fired = 0;
        for (when, now, expected, promise) in [
            (100, 50, Wake::At(100), 100),
            (100, 100, Wake::Now, 0),
            (100, 120, Wake::None, 0),
            (90, 120, Wake::Now, 0),
            (90, 121, Wake::None, 0),
            (100, 121, Wake::Now, 0),
            (0, 122, Wake::None, 0),
            (200, 122, Wake::At(200), 200),
            (0, 123, Wake::None, 0),
            (u64::MAX, 124, Wake::At(u64::MAX), u64::MAX),
        ] {
            Word::store(&next_wake, when);
            assert_eq!(look(&next_wake, &armed_until, &mut fired, now), expected, "when={when} now={now}");
            assert_eq!(Word::load(&armed_until), promise, "when={when} now={now}");
        }
    }
}
