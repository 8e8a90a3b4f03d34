//! Where things lie in the memory of a ring. Offsets are in 8-byte words, a line is 8 of them; a byte ring's byte n is byte
//! n modulo 8 of its word, little-endian.
//!
//! | words | content | who writes |
//! |---|---|---|
//! | 0 | [`MAGIC`] | the creator, last |
//! | 1 | bits 31:0 words a record, 0 = bytes; bits 63:32 capacity in records or bytes | the creator |
//! | 8 | producer index, free-running | producer |
//! | 16 | consumer index, free-running | consumer |
//! | 24 | consumer's need_kick | consumer |
//! | 32 | producer's need_kick | producer |
//! | 40 … | data, as long a power of two as fits | producer |
//!
//! One writer a line. The need_kick words have lines of their own because they change only when somebody sleeps: the
//! peer, who reads one at each commit, then finds it in its cache. The rest of the header is zero and not read.

use crate::error::AttachError;
use crate::memory::Memory;

/// Words in front of the data.
pub const HEADER_WORDS: usize = 40;

/// First word of a ring: "CMTYRNG1", little-endian.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"CMTYRNG1");
pub(crate) const PRODUCER_INDEX: usize = 8;
pub(crate) const CONSUMER_INDEX: usize = 16;
pub(crate) const CONSUMER_NEED_KICK: usize = 24;
pub(crate) const PRODUCER_NEED_KICK: usize = 32;
const MAGIC_WORD: usize = 0;
const SHAPE_WORD: usize = 1;

/// Longest ring, in records or bytes: it leaves the capacity's field in word 1 a spare bit.
const MAX_CAPACITY: u64 = 1 << 30;

/// Returns how many words a ring of `capacity` records of `record_words` words takes.
pub const fn words_for_records(capacity: usize, record_words: usize) -> usize {
    HEADER_WORDS + capacity * record_words
}

/// Returns how many words a ring of `capacity_bytes` bytes takes.
pub const fn words_for_bytes(capacity_bytes: usize) -> usize {
    HEADER_WORDS + capacity_bytes / 8
}

/// What a ring is made of; computed by each side from the length of its own mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    /// Records or bytes; a power of two.
    pub capacity: u64,
    record_words: u32,
}

impl Geometry {
    /// The largest ring of records of `record_words` words in `words` words.
    pub fn of_records(words: usize, record_words: usize) -> Result<Self, AttachError> {
        let wire = u32::try_from(record_words).map_err(|_| AttachError::TooSmall { words })?;
        let records = words.saturating_sub(HEADER_WORDS).checked_div(record_words).unwrap_or(0);
        Ok(Self { capacity: largest_power(records, words)?, record_words: wire })
    }

    /// The largest ring of bytes in `words` words.
    pub fn of_bytes(words: usize) -> Result<Self, AttachError> {
        let bytes = words.saturating_sub(HEADER_WORDS).saturating_mul(8);
        Ok(Self { capacity: largest_power(bytes, words)?, record_words: 0 })
    }

    /// Makes an empty ring: everything before the magic, the magic last.
    pub fn create(self, memory: &impl Memory) {
        memory.store(MAGIC_WORD, 0);
        memory.fence();
        for index in MAGIC_WORD + 1..HEADER_WORDS {
            memory.store(index, 0);
        }
        memory.store(SHAPE_WORD, self.shape());
        memory.store_release(MAGIC_WORD, MAGIC);
    }

    /// Checks that the peer made the ring that this side expects.
    pub fn check(self, memory: &impl Memory) -> Result<(), AttachError> {
        let found = memory.load_acquire(MAGIC_WORD);
        if found != MAGIC {
            return Err(AttachError::NoRing { found });
        }
        let found = memory.load(SHAPE_WORD);
        let expected = self.shape();
        if found != expected {
            return Err(AttachError::OtherGeometry { found, expected });
        }
        Ok(())
    }

    fn shape(self) -> u64 {
        self.capacity << 32 | u64::from(self.record_words)
    }
}

/// Returns the largest power of two that is at most `units` and [`MAX_CAPACITY`].
fn largest_power(units: usize, words: usize) -> Result<u64, AttachError> {
    match units.checked_ilog2() {
        Some(log) => Ok((1 << log).min(MAX_CAPACITY)),
        None => Err(AttachError::TooSmall { words }),
    }
}

/// Returns the place in the data of the unit with this index.
#[expect(clippy::cast_possible_truncation, reason = "below the capacity, which was a usize")]
#[inline(always)]
pub(crate) const fn place(index: u64, capacity: u64) -> usize {
    (index & (capacity - 1)) as usize
}

/// Converts a number of units that is at most the capacity.
#[expect(clippy::cast_possible_truncation, reason = "at most the capacity, which was a usize")]
#[inline(always)]
pub(crate) const fn units(count: u64) -> usize {
    count as usize
}
