//! Waiting for a lock whose holder may be off CPU: spinning is right while it runs, and waste while it does not.
//!
//! ```text
//! guest: load the holder's seq; odd: spin on; even: YIELD_TO(holder, seq)
//! hypervisor: lock the holder's queue; seq as said and the holder queued: take it out, run it here; else: refuse, nothing changes
//! ```
//!
//! The guest's look is stale as soon as it is done: the holder may have been dispatched, have released the lock and have been
//! switched out again by the time the call arrives, and then a donation would run a vCPU that nobody waits for. seq changes
//! at each dispatch, so the call carries the value seen. seq and the queue change together under the queue's lock, so
//! comparison and removal happen under it too. Compared before the lock, the value may be stale again when the lock is held.
//!
//! Proven (`tests/loom_lock_wait.rs`): beside a pCPU that dispatches the holder and switches it out again, a donation takes
//! it only at the dispatch count that the waiter saw, and it is never on two pCPUs. Fails when the comparison stands before
//! the lock, and when there is none.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use pv_abi::protocol::dispatch;
//! use pv_abi::protocol::lock_wait::{self, Wait};
//!
//! let holder_seq = AtomicU64::new(0);
//! // Guest: the lock's holder is off CPU. The waiter calls YIELD_TO with what it saw.
//! let Wait::YieldTo(seen) = lock_wait::look(&holder_seq) else { return };
//! assert!(lock_wait::is_current(&holder_seq, seen));
//! // The holder ran in between: the hypervisor refuses, and nothing changes.
//! dispatch::switch_in(&holder_seq);
//! assert!(!lock_wait::is_current(&holder_seq, seen));
//! assert_eq!(lock_wait::look(&holder_seq), Wait::Spin);
//! ```

use super::dispatch::is_on_cpu;
use super::word::Word;

/// What a waiter does after one look at the lock's holder.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// The holder runs: look at the lock again.
    Spin,
    /// It does not: YIELD_TO it, with this dispatch_seq.
    YieldTo(u64),
}

/// Guest: looks at the holder's dispatch_seq, in its status row.
#[inline(always)]
pub fn look<W: Word>(holder_dispatch_seq: &W) -> Wait {
    let seq = holder_dispatch_seq.load();
    if is_on_cpu(seq) { Wait::Spin } else { Wait::YieldTo(seq) }
}

/// Hypervisor, in YIELD_TO, under the lock of the target's queue: says whether the target is still where the caller saw
/// it. Whether it is queued at all (and not blocked) the caller knows from its queue.
#[inline(always)]
pub fn is_current<W: Word>(target_dispatch_seq: &W, seen: u64) -> bool {
    let seq = target_dispatch_seq.load_relaxed();
    seq == seen && !is_on_cpu(seq)
}
