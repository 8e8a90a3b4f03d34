//! BLOCK: a vCPU goes to sleep and no event that was sent meanwhile is slept through.
//!
//! ```text
//! hypervisor: lock the target's queue; seq = off; FENCE; load pending; empty: leave it blocked    sender: see `wake`
//! ```
//!
//! The fence stands between "off" becoming visible and the second look at the events. Without it the look may come first: a
//! sender sets its bit after the look, still reads "on CPU and polling", and sends no KICK. With it, either the sender
//! reads "off" and kicks, or the look sees its bit. A KICK takes the queue's lock, so it finds the vCPU either not yet
//! blocked, and then the look sees the bit, or blocked, and wakes it.
//!
//! Proven (`tests/loom_block.rs`): with one sender and a target that blocks while POLLING is set, the target is never
//! blocked with an event pending. Fails without the fence, and without the second look.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use pv_abi::protocol::block::{self, Block};
//!
//! let (dispatch_seq, pending) = (AtomicU64::new(1), AtomicU64::new(0b100));
//!
//! // Hypervisor, in BLOCK: event 2 is pending and wanted, so the call returns at once.
//! assert_eq!(block::block(&dispatch_seq, &pending, u64::MAX), Block::Return(0b100));
//! // The guest wants event 0 only: it sleeps.
//! assert_eq!(block::block(&dispatch_seq, &pending, 0b001), Block::Sleep);
//! ```

use super::dispatch::{switch_in, switch_out};
use super::word::Word;

/// What BLOCK does.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block {
    /// Nothing is pending: the vCPU is off CPU, a KICK wakes it.
    Sleep,
    /// These of the wanted events are pending: the call returns at once, the vCPU is on CPU as before.
    Return(u64),
}

/// Hypervisor, in BLOCK, under the lock of the vCPU's queue: sleeps unless one of the events `wanted` is pending. The words
/// of the event line are the guest's: they decide about its own sleep and nothing else. The caller looks at interrupts,
/// NMI and next_wake, which this pCPU alone changes or which come with a KICK.
#[inline]
pub fn block<W: Word>(dispatch_seq: &W, pending: &W, wanted: u64) -> Block {
    switch_out(dispatch_seq);
    match pending.load() & wanted {
        0 => Block::Sleep,
        events => {
            switch_in(dispatch_seq);
            Block::Return(events)
        }
    }
}
