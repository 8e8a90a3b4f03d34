//! Giving the CPU away only when somebody waits for it.
//!
//! The guest reads one flag: YIELD_PLEASE, which the hypervisor sets when it enqueues somebody behind the running vCPU and
//! clears when it dispatches another or the queue empties. A stale read costs one needless call or one late one, bounded by
//! the slice, so it needs no ordering. The flags have several writers (whoever enqueues, the pCPU that holds the vCPU), hence
//! LOCK operations.
//!
//! A vCPU that runs alone has no slice timer, so an enqueuer on another pCPU has to interrupt it, or leave it alone if it is
//! not in the guest anyway:
//!
//! ```text
//! runner: XCHG in_guest = 1; test queue; then enter          enqueuer: LOCK enqueue; load in_guest; 1: send an IPI
//! ```
//!
//! Both are full barriers: either the runner finds the queue filled and does not enter, or the enqueuer finds it in the
//! guest. If the first is only a store, its test may be done before in_guest is visible; if the second is only a store, it
//! may read in_guest before the entry is visible. Either way a vCPU runs on alone while another one waits, without end.
//!
//! Proven (`tests/loom_yield.rs`): after one entry and two remote enqueues, a runner that is in the guest beside a filled
//! queue has got an IPI. Fails when either side is no barrier.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use pv_abi::protocol::yield_wanted::{self, Enter, Interrupt};
//!
//! let (in_guest, queued, flags) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
//!
//! // Hypervisor: the only vCPU of this pCPU enters without a slice timer.
//! assert_eq!(yield_wanted::enter(&in_guest, &queued), Enter::Alone);
//! // Another pCPU puts work here: it has to interrupt the guest, and asks it to yield.
//! assert_eq!(yield_wanted::enqueue(&queued, &in_guest, 1), Interrupt::Needed);
//! yield_wanted::ask(&flags);
//! // Guest: one load says that somebody waits.
//! assert!(yield_wanted::is_wanted(&flags));
//! ```

use super::word::Word;
use crate::status::StatusFlags;

/// Guest: says whether somebody waits for this CPU. Reads word FLAGS of the own status row.
#[inline(always)]
pub fn is_wanted<W: Word>(flags: &W) -> bool {
    flags.load_relaxed() & StatusFlags::YIELD_PLEASE.bits() != 0
}

/// Hypervisor, under the run-queue lock: somebody waits behind the vCPU with these flags.
#[inline(always)]
pub fn ask<W: Word>(flags: &W) {
    flags.fetch_or(StatusFlags::YIELD_PLEASE.bits());
}

/// Hypervisor, under the run-queue lock: nobody waits behind it any more.
#[inline(always)]
pub fn withdraw<W: Word>(flags: &W) {
    flags.fetch_and(!StatusFlags::YIELD_PLEASE.bits());
}

/// What a runner does that was about to enter the guest.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enter {
    /// Nobody waits: enter, without a slice timer.
    Alone,
    /// Somebody came: `in_guest` is 0 again, pick anew.
    Reschedule,
}

/// What an enqueuer does for a pCPU that it put work on.
#[must_use = "a vCPU that runs alone notices nothing without the IPI"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    /// Send an IPI.
    Needed,
    /// The pCPU tests its queue before it enters.
    NotNeeded,
}

/// Hypervisor, runner, before it enters a guest without a slice timer. `queued` is not zero while somebody waits here.
#[inline(always)]
pub fn enter<W: Word>(in_guest: &W, queued: &W) -> Enter {
    in_guest.store_fenced(1);
    if queued.load() == 0 {
        Enter::Alone
    } else {
        leave(in_guest);
        Enter::Reschedule
    }
}

/// Hypervisor, runner, after an exit. It tests the queue before it enters again; no barrier is needed for that.
#[inline(always)]
pub fn leave<W: Word>(in_guest: &W) {
    in_guest.store(0);
}

/// Hypervisor, enqueuer on another pCPU: puts the work of `bits` into `queued`. Where the queue is a structure under a
/// lock, the work is put there first, and this announces it.
#[inline(always)]
pub fn enqueue<W: Word>(queued: &W, in_guest: &W, bits: u64) -> Interrupt {
    queued.fetch_or(bits);
    if in_guest.load() == 0 { Interrupt::NotNeeded } else { Interrupt::Needed }
}
