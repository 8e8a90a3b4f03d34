//! A chain of buffers: checked once, and then copied from and to.

use super::{Malformed, further};
use crate::base::addr::{GuestPhys, OutsideMemory};
use crate::base::hardware::GuestRam;
use alloc::vec::Vec;
use bitflags::bitflags;

/// Most buffers in a chain. Devices offer queues of no more descriptors, and no chain may be longer (§2.7.5.3.1).
pub const MAX_SEGMENTS: usize = 256;

const DESCRIPTOR_BYTES: u32 = 16;

bitflags! {
    /// Flags of a descriptor (§2.7.5).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Flags: u16 {
        const NEXT = 1 << 0;
        const WRITE = 1 << 1;
        const INDIRECT = 1 << 2;
    }
}

/// What a descriptor that stands for a table means here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Indirect {
    Allowed,
    NotNegotiated,
    /// This table is such a one itself.
    Nested,
}

/// A table of descriptors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub at: GuestPhys,
    /// Descriptors.
    pub len: u32,
    pub indirect: Indirect,
}

/// A descriptor as it was read.
#[derive(Clone, Copy)]
struct Descriptor {
    at: u64,
    len_bytes: u32,
    flags: Flags,
    next: u16,
}

impl Table {
    fn descriptor<R: GuestRam>(&self, ram: &R, index: u16) -> Result<Descriptor, Malformed> {
        if u32::from(index) >= self.len {
            return Err(Malformed::NoSuchDescriptor(index));
        }
        let mut bytes = [0; DESCRIPTOR_BYTES as usize];
        ram.read(further(self.at, u64::from(index) * u64::from(DESCRIPTOR_BYTES))?, &mut bytes)?;
        let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = bytes;
        Ok(Descriptor {
            at: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            len_bytes: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: Flags::from_bits_retain(u16::from_le_bytes([f0, f1])),
            next: u16::from_le_bytes([n0, n1]),
        })
    }

    /// The table that `descriptor`, which has this index here, stands for (§2.7.5.3.2).
    fn inner(&self, index: u16, descriptor: &Descriptor) -> Result<Self, Malformed> {
        let bytes = descriptor.len_bytes;
        match self.indirect {
            Indirect::NotNegotiated => Err(Malformed::IndirectNotNegotiated(index)),
            Indirect::Nested => Err(Malformed::IndirectNested(index)),
            Indirect::Allowed if descriptor.flags.contains(Flags::NEXT) => {
                Err(Malformed::IndirectWithNext(index))
            }
            Indirect::Allowed if bytes == 0 || !bytes.is_multiple_of(DESCRIPTOR_BYTES) => {
                Err(Malformed::IndirectBytes(bytes))
            }
            Indirect::Allowed => Ok(Self {
                at: GuestPhys::new(descriptor.at).ok_or(Malformed::OutsideMemory(descriptor.at))?,
                len: bytes / DESCRIPTOR_BYTES,
                indirect: Indirect::Nested,
            }),
        }
    }
}

/// A buffer: where it claims to be, not yet known to be backed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The first byte.
    pub at: GuestPhys,
    /// How many bytes; may be none.
    pub len_bytes: u32,
}

/// The buffers of one request: a part to read, and then a part to write.
#[derive(Debug)]
pub struct Chain {
    head: u16,
    /// First the readable ones.
    segments: Vec<Segment>,
    readable: usize,
    readable_bytes: u32,
    writable_bytes: u32,
}

impl Default for Chain {
    /// No buffers, and memory for as many as a chain may have.
    fn default() -> Self {
        let segments = Vec::with_capacity(MAX_SEGMENTS);
        Self { head: 0, segments, readable: 0, readable_bytes: 0, writable_bytes: 0 }
    }
}

impl Chain {
    /// The chain's first descriptor, by which the driver knows it.
    pub const fn head(&self) -> u16 {
        self.head
    }

    /// Bytes to read.
    pub const fn readable_bytes(&self) -> u32 {
        self.readable_bytes
    }

    /// Bytes to write.
    pub const fn writable_bytes(&self) -> u32 {
        self.writable_bytes
    }

    /// The buffers to read.
    pub fn readable(&self) -> &[Segment] {
        self.segments.get(..self.readable).unwrap_or_default()
    }

    /// The buffers to write.
    pub fn writable(&self) -> &[Segment] {
        self.segments.get(self.readable..).unwrap_or_default()
    }

    /// Copies out of the readable part, from `offset` in it on.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: the part ends before, or lies outside of memory.
    pub fn read<R: GuestRam>(&self, ram: &R, offset: u32, into: &mut [u8]) -> Result<(), Malformed> {
        self.pieces(self.readable(), offset, into.len(), |at, done, len| {
            ram.read(at, into.get_mut(done..done + len).unwrap_or_default())
        })
    }

    /// Copies into the writable part, from `offset` in it on.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: the part ends before, or lies outside of memory.
    pub fn write<R: GuestRam>(&self, ram: &R, offset: u32, from: &[u8]) -> Result<(), Malformed> {
        self.pieces(self.writable(), offset, from.len(), |at, done, len| {
            ram.write(at, from.get(done..done + len).unwrap_or_default())
        })
    }

    /// Calls `each` with every piece of `len` bytes that lies in one buffer: address, offset among the bytes, length.
    fn pieces(
        &self,
        segments: &[Segment],
        offset: u32,
        len: usize,
        mut each: impl FnMut(GuestPhys, usize, usize) -> Result<(), OutsideMemory>,
    ) -> Result<(), Malformed> {
        let (mut skip, mut done) = (offset, 0);
        for segment in segments {
            if done == len {
                break;
            }
            let Some(room) = segment.len_bytes.checked_sub(skip).filter(|room| *room > 0) else {
                skip = skip.saturating_sub(segment.len_bytes);
                continue;
            };
            let piece = usize::try_from(room).unwrap_or(usize::MAX).min(len - done);
            each(further(segment.at, u64::from(skip))?, done, piece)?;
            done += piece;
            skip = 0;
        }
        if done == len { Ok(()) } else { Err(Malformed::TooShort(self.head)) }
    }

    /// Becomes the chain that begins at `head`. It ends: each turn adds a buffer, or enters the one table that it may enter.
    pub(super) fn follow<R: GuestRam>(&mut self, ram: &R, table: &Table, head: u16) -> Result<(), Malformed> {
        self.segments.clear();
        (self.head, self.readable, self.readable_bytes, self.writable_bytes) = (head, 0, 0, 0);
        let (mut table, mut index) = (*table, head);
        loop {
            let descriptor = table.descriptor(ram, index)?;
            if descriptor.flags.contains(Flags::INDIRECT) {
                table = table.inner(index, &descriptor)?;
                index = 0;
                continue;
            }
            self.add(index, &descriptor)?;
            if !descriptor.flags.contains(Flags::NEXT) {
                return Ok(());
            }
            index = descriptor.next;
        }
    }

    fn add(&mut self, index: u16, descriptor: &Descriptor) -> Result<(), Malformed> {
        let Descriptor { at, len_bytes, flags, next: _ } = *descriptor;
        if self.segments.len() == MAX_SEGMENTS {
            return Err(Malformed::TooManySegments(self.head));
        }
        let at = GuestPhys::new(at).ok_or(Malformed::OutsideMemory(at))?;
        let total = if flags.contains(Flags::WRITE) {
            &mut self.writable_bytes
        } else if self.readable < self.segments.len() {
            return Err(Malformed::ReadableAfterWritable(index));
        } else {
            self.readable += 1;
            &mut self.readable_bytes
        };
        *total = total.checked_add(len_bytes).ok_or(Malformed::TooManyBytes(self.head))?;
        self.segments.push(Segment { at, len_bytes });
        Ok(())
    }
}
