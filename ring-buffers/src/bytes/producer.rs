//! The sending end of a byte ring.

use super::word_and_byte;
use crate::Pushed;
use crate::ends::{ProducerEnd, Wait};
use crate::error::{AttachError, RingError};
use crate::geometry::{Geometry, units};
use crate::memory::Memory;

/// Sends bytes.
#[derive(Debug)]
pub struct Producer<M> {
    end: ProducerEnd<M>,
}

impl<M: Memory> Producer<M> {
    /// Makes an empty ring, as long a power of two as fits. The peer attaches after this.
    ///
    /// # Errors
    ///
    /// [`AttachError::TooSmall`], when not one word fits; the memory is untouched.
    pub fn create(memory: M) -> Result<Self, AttachError> {
        let geometry = Geometry::of_bytes(memory.words())?;
        Ok(Self { end: ProducerEnd::create(memory, geometry) })
    }

    /// Takes up a ring that the peer, or an earlier producer, made. The last time that this side reads its own index.
    ///
    /// # Errors
    ///
    /// When there is no such ring, or its indices contradict each other; the memory is untouched.
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let geometry = Geometry::of_bytes(memory.words())?;
        Ok(Self { end: ProducerEnd::attach(memory, geometry)? })
    }

    /// Returns how many bytes the ring holds.
    pub fn capacity(&self) -> usize {
        units(self.end.capacity)
    }

    /// Returns how many bytes can be staged now. Reads the peer's index.
    ///
    /// # Errors
    ///
    /// [`RingError::Corrupt`].
    pub fn room(&mut self) -> Result<usize, RingError> {
        self.end.room(self.end.capacity).map(units)
    }

    /// Writes as many of `bytes` as there is room for, the first ones, without showing them. Returns how many.
    ///
    /// # Errors
    ///
    /// [`RingError::Full`] where there is no room for any, [`RingError::Corrupt`]; nothing is staged.
    pub fn stage(&mut self, bytes: &[u8]) -> Result<usize, RingError> {
        self.end.sound()?;
        let wanted = bytes.len().min(units(self.end.capacity));
        let room = units(self.end.room(u64::try_from(wanted).unwrap_or(u64::MAX))?);
        let count = wanted.min(room);
        if count == 0 && !bytes.is_empty() {
            return Err(RingError::Full);
        }
        let mut left = &bytes[..count];
        while !left.is_empty() {
            let (word, byte) = word_and_byte(self.end.head, self.end.capacity);
            let (now, later) = left.split_at(left.len().min(8 - byte));
            let mut merged = [0; 8];
            if now.len() < 8 {
                // The other bytes of the word are unread or free; only this side writes data, so what it reads back is its
                // own, or a hostile peer's harm to itself.
                merged = self.end.memory.load(word).to_le_bytes();
            }
            merged[byte..byte + now.len()].copy_from_slice(now);
            self.end.memory.store(word, u64::from_le_bytes(merged));
            self.end.advance(u64::try_from(now.len()).unwrap_or(0));
            left = later;
        }
        Ok(count)
    }

    /// Shows the peer what was staged. Returns whether it has to be kicked; costs a fence.
    #[must_use = "a peer that waits sleeps on unless a due kick is sent"]
    #[inline]
    pub fn commit(&mut self) -> bool {
        self.end.publish();
        self.end.owes_kick()
    }

    /// Shows the peer what was staged and asks nothing: no fence. For a peer that is known to poll; otherwise `commit`
    /// follows sooner or later, and owes the kick for all since the last one.
    #[inline]
    pub fn commit_quietly(&mut self) {
        self.end.publish();
    }

    /// Stages and commits as many of `bytes` as there is room for, the first ones.
    ///
    /// # Errors
    ///
    /// As [`stage`](Self::stage); nothing is sent.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Pushed, RingError> {
        let count = self.stage(bytes)?;
        Ok(Pushed { count, kick: self.commit() })
    }

    /// Asks the peer for a kick when `wanted` bytes can be staged. Commit before waiting.
    ///
    /// # Errors
    ///
    /// [`RingError::Corrupt`]: nobody would kick.
    pub fn prepare_to_wait(&mut self, wanted: usize) -> Result<Wait, RingError> {
        self.end.prepare_to_wait(u64::try_from(wanted).unwrap_or(u64::MAX))
    }

    /// Starts anew after [`RingError::Corrupt`]: the ring is empty from here on, staged and unread bytes are gone. One side
    /// at a time, when both know.
    pub fn reset(&mut self) {
        self.end.reset();
    }
}
