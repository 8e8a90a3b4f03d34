//! Rings of records of `N` words of 8 bytes.

mod consumer;
mod producer;

pub use consumer::Consumer;
pub use producer::Producer;

use crate::error::AttachError;
use crate::geometry::{Geometry, HEADER_WORDS, place};

/// The geometry of the largest ring of `N`-word records in `words` words. `N` = 0 does not compile: it is a byte ring's mark.
fn geometry<const N: usize>(words: usize) -> Result<Geometry, AttachError> {
    const { assert!(N > 0, "a record has at least one word") };
    Geometry::of_records(words, N)
}

/// The first word of the record with this index.
#[inline(always)]
const fn first_word<const N: usize>(index: u64, capacity: u64) -> usize {
    HEADER_WORDS + place(index, capacity) * N
}
