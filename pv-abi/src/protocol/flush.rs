//! TLB shoot-down without an IPI to vCPUs that are off CPU: the hypervisor flushes for them when they come back.
//!
//! ```text
//! guest: change the page table; LOCK OR flush_request; load the target's seq; even: done; odd: send the IPI and wait for it
//! hypervisor, at dispatch: seq = on; FENCE; load flush_request; not 0: XCHG flush_request = 0; flush; then enter
//! ```
//!
//! Each side writes its word, passes a full barrier (the sender's LOCK OR, the dispatch's XCHG), and loads the other's. So
//! either the sender reads "on" and sends the IPI, or the dispatch finds the request. If the dispatch is only a store, its
//! load of flush_request may be done first: the sender skips the IPI, and the target enters with a stale translation. The
//! XCHG that takes the request also acquires: the page table is walked as the sender left it. A switch-out needs nothing:
//! who still reads "on" sends an IPI too many.
//!
//! Proven (`tests/loom_flush.rs`): with two senders, a dispatch that no IPI goes to flushes before it enters, after the
//! senders' changes of the page table. Fails when either side is no barrier.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use pv_abi::protocol::flush::{self, Flush, Shootdown};
//!
//! let (flush_request, dispatch_seq) = (AtomicU64::new(0), AtomicU64::new(0));
//! assert_eq!(flush::request(&flush_request, &dispatch_seq), Shootdown::Deferred);
//! assert_eq!(flush::dispatch(&dispatch_seq, &flush_request), Flush::Needed);
//! ```

use super::dispatch::{is_on_cpu, switch_in};
use super::word::Word;

/// How a sender gets a translation out of a target's TLB.
#[must_use = "the target may still use the old translation"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shootdown {
    /// The target is on CPU: send the IPI and wait for it.
    Interrupt,
    /// It is off CPU and flushes before it runs: done.
    Deferred,
}

/// Guest, sender, after changing the page table: asks the target to flush.
#[inline(always)]
pub fn request<W: Word>(flush_request: &W, dispatch_seq: &W) -> Shootdown {
    flush_request.fetch_or(1);
    if is_on_cpu(dispatch_seq.load()) { Shootdown::Interrupt } else { Shootdown::Deferred }
}

/// Whether the guest's translations on this pCPU have to go.
#[must_use = "the guest was told that this flush happens before it runs"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flush {
    /// Flush them before entering.
    Needed,
    /// They may stay.
    NotNeeded,
}

/// Hypervisor, at dispatch: announces the vCPU and takes its flush request. The word is distrusted: any value but zero is
/// one flush of the guest's own translations.
#[inline(always)]
pub fn dispatch<W: Word>(dispatch_seq: &W, flush_request: &W) -> Flush {
    switch_in(dispatch_seq);
    if flush_request.load() == 0 {
        return Flush::NotNeeded;
    }
    flush_request.swap(0);
    Flush::Needed
}
