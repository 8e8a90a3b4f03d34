//! The receiving end of a byte ring.

use super::word_and_byte;
use crate::Popped;
use crate::ends::{ConsumerEnd, Wait};
use crate::error::{AttachError, RingError};
use crate::geometry::{Geometry, units};
use crate::memory::Memory;

/// Receives bytes.
#[derive(Debug)]
pub struct Consumer<M> {
    end: ConsumerEnd<M>,
}

impl<M: Memory> Consumer<M> {
    /// Makes an empty ring, as long a power of two as fits. The peer attaches after this.
    ///
    /// # Errors
    ///
    /// [`AttachError::TooSmall`], when not one word fits; the memory is untouched.
    pub fn create(memory: M) -> Result<Self, AttachError> {
        let geometry = Geometry::of_bytes(memory.words())?;
        Ok(Self { end: ConsumerEnd::create(memory, geometry) })
    }

    /// Takes up a ring that the peer, or an earlier consumer, made. The last time that this side reads its own index.
    ///
    /// # Errors
    ///
    /// When there is no such ring, or its indices contradict each other; the memory is untouched.
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let geometry = Geometry::of_bytes(memory.words())?;
        Ok(Self { end: ConsumerEnd::attach(memory, geometry)? })
    }

    /// Returns how many bytes the ring holds.
    pub fn capacity(&self) -> usize {
        units(self.end.capacity)
    }

    /// Returns how many bytes can be taken now. Reads the peer's index.
    ///
    /// # Errors
    ///
    /// [`RingError::Corrupt`].
    pub fn available(&mut self) -> Result<usize, RingError> {
        self.end.available(self.end.capacity).map(units)
    }

    /// Copies out as many bytes as there are and `to` holds, and keeps their room. Returns how many.
    ///
    /// # Errors
    ///
    /// [`RingError::Empty`], [`RingError::Corrupt`]; `to` is untouched.
    pub fn take(&mut self, to: &mut [u8]) -> Result<usize, RingError> {
        self.end.sound()?;
        let wanted = to.len().min(units(self.end.capacity));
        let available = units(self.end.available(u64::try_from(wanted).unwrap_or(u64::MAX))?);
        let count = wanted.min(available);
        if count == 0 && !to.is_empty() {
            return Err(RingError::Empty);
        }
        let mut left = &mut to[..count];
        while !left.is_empty() {
            let (word, byte) = word_and_byte(self.end.tail, self.end.capacity);
            let (now, later) = left.split_at_mut(left.len().min(8 - byte));
            let found = self.end.memory.load(word).to_le_bytes();
            now.copy_from_slice(&found[byte..byte + now.len()]);
            self.end.advance(u64::try_from(now.len()).unwrap_or(0));
            left = later;
        }
        Ok(count)
    }

    /// Gives the room of what was taken back. Returns whether the peer has to be kicked; costs a fence.
    #[must_use = "a peer that waits sleeps on unless a due kick is sent"]
    #[inline]
    pub fn release(&mut self) -> bool {
        self.end.release();
        self.end.owes_kick()
    }

    /// Gives the room back and asks nothing: no fence. For a peer that never waits for room; otherwise `release` follows
    /// sooner or later, and owes the kick for all since the last one.
    #[inline]
    pub fn release_quietly(&mut self) {
        self.end.release();
    }

    /// Takes as many bytes as there are and `to` holds, and releases their room once.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    pub fn pop(&mut self, to: &mut [u8]) -> Result<Popped<usize>, RingError> {
        let value = self.take(to)?;
        Ok(Popped { value, kick: self.release() })
    }

    /// Asks the peer for a kick when `wanted` bytes are there. Release before waiting.
    ///
    /// # Errors
    ///
    /// [`RingError::Corrupt`]: nobody would kick.
    pub fn prepare_to_wait(&mut self, wanted: usize) -> Result<Wait, RingError> {
        self.end.prepare_to_wait(u64::try_from(wanted).unwrap_or(u64::MAX))
    }

    /// Starts anew after [`RingError::Corrupt`]: the ring is empty from here on, unread bytes are gone. One side at a time,
    /// when both know.
    pub fn reset(&mut self) {
        self.end.reset();
    }
}
