//! Critical sections that are not cut in two: a guest counts how deep it is, and a slice that ends inside gets one
//! extension, which the guest pays back by yielding when it is out.
//!
//! ```text
//! guest: INC depth; … ; DEC depth; COMPILER FENCE; test CRIT_GRANTED; set and depth 0: YIELD
//! hypervisor, at slice end: load depth; not 0 and nothing granted yet: LOCK OR CRIT_GRANTED, go on for at most 10 µs
//! ```
//!
//! Both run on the same pCPU, so an exit falls between two instructions and nothing is reordered. Depth is taken down
//! *before* the flag is tested: a slice end before the DEC grants, and the test sees it; one after the DEC preempts. The
//! other way round, a slice end between test and DEC grants what the guest never notices: it keeps the CPU until the extension
//! runs out, and is debited an overrun. The compiler fences keep the section's own accesses inside, and the test behind
//! the DEC. Depth is written by one vCPU alone, so INC and DEC need no LOCK; a guest that lies gets one extension a slice,
//! which it pays for.
//!
//! Proven (`tests/loom_critical.rs`): with a slice end at any point, a vCPU inside the section is not preempted, one outside
//! is, and one that got an extension yields when it leaves. Fails when the test comes before the DEC.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use pv_abi::protocol::critical::{self, Leave, SliceEnd};
//!
//! let (depth, flags) = (AtomicU64::new(0), AtomicU64::new(0));
//!
//! critical::enter(&depth);
//! // Hypervisor: the slice ends inside the section. It is extended once.
//! assert_eq!(critical::slice_end(&depth, &flags), SliceEnd::Extend);
//! // Guest: it leaves the section and pays the extension back.
//! assert_eq!(critical::leave(&depth, &flags), Leave::Yield);
//! ```

use super::word::Word;
use crate::status::StatusFlags;
use core::sync::atomic::{Ordering, compiler_fence};

/// Byte 0 of the word is the depth; the rest is zero, so that a 64-bit INC counts in it.
const DEPTH: u64 = 0xFF;

/// What a guest does on leaving.
#[must_use = "an extension that is not paid back is taken as an overrun"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// Goes on.
    GoOn,
    /// Calls YIELD: the section ran on an extension.
    Yield,
}

/// Guest: enters a critical section; they nest.
#[inline(always)]
pub fn enter<W: Word>(depth: &W) {
    depth.increment();
    compiler_fence(Ordering::SeqCst);
}

/// Guest: leaves a critical section.
#[inline(always)]
pub fn leave<W: Word>(depth: &W, flags: &W) -> Leave {
    compiler_fence(Ordering::SeqCst);
    depth.decrement();
    compiler_fence(Ordering::SeqCst);
    if flags.load_relaxed() & StatusFlags::CRIT_GRANTED.bits() != 0 && depth.load_relaxed() & DEPTH == 0 {
        Leave::Yield
    } else {
        Leave::GoOn
    }
}

/// What the end of a slice means.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SliceEnd {
    /// Outside, or the extension is used up: pick another.
    Preempt,
    /// Inside: go on for the extension, once. The guest has been told.
    Extend,
}

/// Hypervisor, at the end of a slice or of its extension, on the pCPU that holds the vCPU. The flag itself says whether
/// this slice was extended: the guest cannot write it.
#[inline]
pub fn slice_end<W: Word>(depth: &W, flags: &W) -> SliceEnd {
    if depth.load_relaxed() & DEPTH == 0 || flags.load_relaxed() & StatusFlags::CRIT_GRANTED.bits() != 0 {
        return SliceEnd::Preempt;
    }
    flags.fetch_or(StatusFlags::CRIT_GRANTED.bits());
    SliceEnd::Extend
}

/// Hypervisor, at dispatch: a new slice has its own extension.
#[inline(always)]
pub fn dispatched<W: Word>(flags: &W) {
    flags.fetch_and(!StatusFlags::CRIT_GRANTED.bits());
}
