//! The index protocol: both ends of any ring, without its data.
//!
//! Indices are free-running: they count units (records or bytes) since the ring was made and wrap at 2^64. The producer owns
//! one, the consumer the other; each keeps its own in private memory, writes it to the shared line, and never reads it back.
//! The peer's is read with Acquire only when the copy from the last time does not suffice, and is refused unless it lies
//! between that copy and what the own index allows.
//!
//! need_kick is an index too: "kick me when your index goes past this". A commit that moves the index from `a` to `b` owes
//! a kick when need_kick is in `a..b`. So a polling peer writes nothing (its need_kick lies in the past), one wait gives
//! one kick, a waiter may ask for a batch, and all-zero is safe (the first commit kicks). Commit and wait order themselves as
//! DESIGN's *wake*:
//!
//! ```text
//! committer: store index; fence; load need_kick          waiter: store need_kick; fence; load index again
//! ```
//!
//! One of the two sees the other's store, whichever comes first: without either fence, both loads may be done before
//! both stores are visible, and the waiter sleeps on a full ring. `tests/loom_wake.rs` shows both.

mod consumer;
mod producer;

pub(crate) use consumer::ConsumerEnd;
pub(crate) use producer::ProducerEnd;

use crate::error::Corrupt;

/// What to do after `prepare_to_wait`.
#[must_use = "going to sleep on Proceed may sleep for ever"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// What was waited for is there.
    Proceed,
    /// It is not there and the peer will kick when it is: sleep until the ring's event.
    Sleep,
}

/// Returns the peer's index if it is one of `lowest ..= highest`, in wrapping order.
#[inline(always)]
fn checked(claimed: u64, lowest: u64, highest: u64) -> Result<u64, Corrupt> {
    if claimed.wrapping_sub(lowest) <= highest.wrapping_sub(lowest) {
        Ok(claimed)
    } else {
        Err(Corrupt { claimed, lowest, highest })
    }
}

/// Says whether an index that moved from `from` to `to` went past `need_kick`.
#[inline(always)]
fn went_past(need_kick: u64, from: u64, to: u64) -> bool {
    need_kick.wrapping_sub(from) < to.wrapping_sub(from)
}
