//! Rings of bytes: a stream, no boundaries kept.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use ring_buffers::{bytes, words_for_bytes};
//!
//! let words = [const { AtomicU64::new(0) }; words_for_bytes(64)];
//! let mut producer = bytes::Producer::create(&words[..])?;
//! let mut consumer = bytes::Consumer::attach(&words[..])?;
//!
//! // The ring takes as much as it has room for, and says how much.
//! assert_eq!(producer.push(&[b'.'; 100])?.count, 64);
//!
//! let mut buffer = [0; 40];
//! assert_eq!(consumer.pop(&mut buffer)?.value, 40);
//! assert_eq!(consumer.available()?, 24);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod consumer;
mod producer;

pub use consumer::Consumer;
pub use producer::Producer;

use crate::geometry::{HEADER_WORDS, place};

/// Where the byte with this index lies: its word, and its place in the word.
#[inline(always)]
const fn word_and_byte(index: u64, capacity: u64) -> (usize, usize) {
    let place = place(index, capacity);
    (HEADER_WORDS + place / 8, place % 8)
}
