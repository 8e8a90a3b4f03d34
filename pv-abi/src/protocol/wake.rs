//! An event for another vCPU, with a KICK only where it would not be noticed without.
//!
//! ```text
//! sender: LOCK OR pending; load POLLING; load seq         target: LOCK AND state (POLLING = 0); load pending again
//! ```
//!
//! A vCPU that polls its event line needs no interrupt, as long as it is on CPU. Both must hold: one that polls and is off
//! CPU is runnable or blocked, and the hypervisor has to know that it has work; one on CPU that does not poll has to be
//! interrupted. The sender's LOCK OR is a full barrier: the bit is visible before the two loads. The target's LOCK AND is
//! one too: "I no longer poll" is visible before the second look. So either the sender reads POLLING = 0 and kicks, or the
//! second look sees the bit. POLLING may be set at any time and by a plain store: seen late, it costs one KICK.
//!
//! Proven (`tests/loom_wake.rs`): with two senders and a target that stops polling, every event is seen by the target's
//! poll, by its second look, or by a KICK. Fails when either locked instruction is no barrier, and without the second look.
//! [`block`](super::block) proves the part of dispatch_seq.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use pv_abi::protocol::wake::{self, Kick};
//!
//! let (pending, state, dispatch_seq) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(1));
//!
//! // Target: on CPU, and from now on it polls. A sender needs no call.
//! wake::start_polling(&state);
//! assert_eq!(wake::send(&pending, &state, &dispatch_seq, 0b10), Kick::NotNeeded);
//! // Target: it stops polling, and takes what came before that.
//! assert_eq!(wake::stop_polling(&state, &pending, 0), 0b10);
//! // Sender: now the target has to be kicked.
//! assert_eq!(wake::send(&pending, &state, &dispatch_seq, 0b10), Kick::Needed);
//! ```

use super::dispatch::is_on_cpu;
use super::word::Word;
use crate::demand::State;

/// Whether the sender has to call KICK.
#[must_use = "an event without its KICK may never be noticed"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kick {
    /// Call it.
    Needed,
    /// The target polls: it notices by itself.
    NotNeeded,
}

/// Guest, sender: sets `events` in the target's `pending`. `state` is word 0 of the target's demand row.
#[inline(always)]
pub fn send<W: Word>(pending: &W, state: &W, dispatch_seq: &W, events: u64) -> Kick {
    pending.fetch_or(events);
    if state.load() & State::POLLING_BIT != 0 && is_on_cpu(dispatch_seq.load()) {
        Kick::NotNeeded
    } else {
        Kick::Needed
    }
}

/// Guest, target: takes the pending events that `mask` does not hold back, and clears them.
#[inline(always)]
pub fn take<W: Word>(pending: &W, mask: u64) -> u64 {
    let events = pending.load() & !mask;
    if events != 0 {
        pending.fetch_and(!events);
    }
    events
}

/// Guest, target: announces that it polls `pending` from now on.
#[inline(always)]
pub fn start_polling<W: Word>(state: &W) {
    state.fetch_or(State::POLLING_BIT);
}

/// Guest, target: announces that it no longer polls. Returns what came before that could be seen: no KICK comes for it.
#[must_use = "no KICK comes for these events"]
#[inline(always)]
pub fn stop_polling<W: Word>(state: &W, pending: &W, mask: u64) -> u64 {
    state.fetch_and(!State::POLLING_BIT);
    take(pending, mask)
}
