//! What a device cannot understand.

use crate::base::addr::OutsideMemory;

/// A queue or a request that no driver may make. The device needs a reset (§2.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// The available index runs so far ahead: more than the queue holds.
    IndexAhead(u16),
    /// There is no such descriptor in the queue or in the indirect table.
    NoSuchDescriptor(u16),
    /// The chain from this descriptor on has more than `MAX_SEGMENTS`, or no end.
    TooManySegments(u16),
    /// The chain from this descriptor on has 2^32 bytes or more in one of its parts.
    TooManyBytes(u16),
    /// This descriptor is the driver's to fill, after one that is the device's.
    ReadableAfterWritable(u16),
    /// This descriptor is of an indirect table, and nobody agreed on those.
    IndirectNotNegotiated(u16),
    /// This descriptor, itself in an indirect table, is of another one.
    IndirectNested(u16),
    /// This descriptor is of an indirect table, and another one follows it.
    IndirectWithNext(u16),
    /// An indirect table has so many bytes: none, or not whole descriptors.
    IndirectBytes(u32),
    /// The chain from this descriptor on has too little room for what its request needs.
    TooShort(u16),
    /// There is no memory at this guest-physical address, or not enough.
    OutsideMemory(u64),
}

impl From<OutsideMemory> for Malformed {
    fn from(OutsideMemory(at): OutsideMemory) -> Self {
        Self::OutsideMemory(at.raw())
    }
}
