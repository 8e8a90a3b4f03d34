//! Rings of records of `N` words of 8 bytes.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use ring_buffers::{RingError, records, words_for_records};
//!
//! let words = [const { AtomicU64::new(0) }; words_for_records(4, 2)];
//! let mut producer = records::Producer::<_, 2>::create(&words[..])?;
//! let mut consumer = records::Consumer::<_, 2>::attach(&words[..])?;
//!
//! // Several records cost one commit, and so at most one kick.
//! producer.stage(&[1, 10])?;
//! producer.stage(&[2, 20])?;
//! let _kick = producer.commit();
//! assert_eq!(consumer.pop()?.value, [1, 10]);
//! assert_eq!(consumer.pop()?.value, [2, 20]);
//! assert_eq!(consumer.pop(), Err(RingError::Empty));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

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
