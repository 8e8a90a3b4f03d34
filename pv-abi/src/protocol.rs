//! Orderings that are part of the ABI, as code that both sides run: guest's and hypervisor's half of each protocol stand
//! in one file, with the reason for every fence and what is proven of it.
//!
//! Two kinds of race occur. Where two pCPUs meet ([`block`], [`wake`], [`yield_wanted`], [`flush`]), each side stores its
//! own word and then loads the other's, and without a full barrier in between on *both* sides both may load the old value
//! (Dekker). Where a guest meets the hypervisor on its own pCPU ([`arm`], [`critical`]), an exit can fall between any two
//! instructions, but nothing is reordered that the compiler leaves in order, so a compiler fence is enough.
//!
//! Proven means: loom runs this code, on its own atomics, through every interleaving with up to three preemptions of the
//! scenario in `tests/loom_*.rs`, and each barrier or second look, taken away alone, makes a run fail. Not proven: that the
//! callers hold the lock a function asks for, and anything about hostile values, which these functions only compare.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use pv_abi::protocol::{dispatch, flush};
//! use pv_abi::protocol::flush::{Flush, Shootdown};
//!
//! let (flush_request, dispatch_seq) = (AtomicU64::new(0), AtomicU64::new(0));
//!
//! // Guest, on one pCPU: the target is off CPU, so the hypervisor flushes for it and no IPI is sent.
//! assert_eq!(flush::request(&flush_request, &dispatch_seq), Shootdown::Deferred);
//! // Hypervisor, on another: it dispatches the target and finds the request.
//! assert_eq!(flush::dispatch(&dispatch_seq, &flush_request), Flush::Needed);
//! // From here on a sender has to interrupt the target.
//! assert_eq!(flush::request(&flush_request, &dispatch_seq), Shootdown::Interrupt);
//! dispatch::switch_out(&dispatch_seq);
//! ```

pub mod arm;
pub mod block;
pub mod critical;
pub mod dispatch;
pub mod flush;
pub mod lock_wait;
pub mod wake;
pub mod word;
pub mod yield_wanted;
