//! Rings of bytes: a stream, no boundaries kept.

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
