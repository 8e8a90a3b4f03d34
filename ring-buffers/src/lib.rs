//! Single-producer single-consumer rings over memory shared by two parties that distrust each other: [`records`] of a
//! fixed size and [`bytes`]. `docs/src/rings.md` is the text to read first.
//!
//! The trust rule: what the peer can write is a claim. Each word of it is read once, by one aligned load, and checked
//! against what this side knows from its own memory: its own index, which is never read back, and the geometry, which
//! follows from the length of its own mapping. A peer that claims the impossible gets [`RingError::Corrupt`] from then on.
//! The worst that a peer can do is to send bad content, or none.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use ring_buffers::{Wait, records};
//!
//! // Two threads would share these words by reference; two guests map one page and make a `Region` of it each.
//! let words = [const { AtomicU64::new(0) }; 512];
//! let mut producer = records::Producer::<_, 2>::create(&words[..])?;
//! let mut consumer = records::Consumer::<_, 2>::attach(&words[..])?;
//!
//! // The consumer found nothing: it asks to be kicked at the next record, and may sleep.
//! assert_eq!(consumer.prepare_to_wait(1)?, Wait::Sleep);
//! let pushed = producer.push(&[7, 8])?;
//! assert!(pushed.kick); // now send the event
//! assert!(!producer.push(&[9, 10])?.kick); // one wait, one kick
//!
//! assert_eq!(consumer.pop()?.value, [7, 8]);
//! assert_eq!(consumer.pop()?.value, [9, 10]);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
#![no_std]

pub mod bytes;
mod ends;
mod error;
mod geometry;
mod memory;
pub mod records;
mod region;

pub use ends::Wait;
pub use error::{AttachError, Corrupt, RingError};
pub use geometry::{HEADER_WORDS, words_for_bytes, words_for_records};
pub use memory::Memory;
pub use region::Region;

/// The program in the README is tested too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What a push did.
#[must_use = "a peer that waits sleeps on unless a due kick is sent"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pushed {
    /// Records or bytes taken from the caller.
    pub count: usize,
    /// The peer waits for this: send it the ring's event.
    pub kick: bool,
}

/// What a pop gave.
#[must_use = "a peer that waits sleeps on unless a due kick is sent"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Popped<T> {
    /// The record, or how many records or bytes were copied out.
    pub value: T,
    /// The peer waits for the space: send it the ring's event.
    pub kick: bool,
}
