//! Refusals.

use core::fmt;

/// Two indices that no honest peer leaves behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupt {
    /// The peer's index as it was read.
    pub claimed: u64,
    /// The lowest it could be.
    pub lowest: u64,
    /// The highest it could be.
    pub highest: u64,
}

/// Why an operation did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingError {
    /// No room: the peer has to take something first.
    Full,
    /// Nothing there: the peer has to send something first.
    Empty,
    /// The peer claimed the impossible, now or earlier. Stays until `reset`.
    Corrupt(Corrupt),
}

/// Why there is no ring in this memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachError {
    /// The memory holds the header and nothing else.
    TooSmall {
        /// Words given.
        words: usize,
    },
    /// The peer has not made the ring yet, or made something else: the first word is not the magic.
    NoRing {
        /// The first word.
        found: u64,
    },
    /// The peer made a ring of another kind, record size or length than this side's mapping gives.
    OtherGeometry {
        /// The second word.
        found: u64,
        /// What this side computed.
        expected: u64,
    },
    /// The two indices in the memory do not belong together.
    Corrupt(Corrupt),
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the peer's index is {:#x}, outside {:#x}..={:#x}", self.claimed, self.lowest, self.highest)
    }
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full"),
            Self::Empty => f.write_str("the ring is empty"),
            Self::Corrupt(corrupt) => write!(f, "the ring is corrupt: {corrupt}"),
        }
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { words } => write!(f, "{words} words are too few for a ring"),
            Self::NoRing { found } => write!(f, "no ring here: the first word is {found:#x}"),
            Self::OtherGeometry { found, expected } => {
                write!(f, "another ring: the geometry word is {found:#x}, expected {expected:#x}")
            }
            Self::Corrupt(corrupt) => write!(f, "the ring is corrupt: {corrupt}"),
        }
    }
}

impl core::error::Error for RingError {}
impl core::error::Error for AttachError {}
