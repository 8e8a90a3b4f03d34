//! The receiving end of a record ring.

use super::{first_word, geometry};
use crate::Popped;
use crate::ends::{ConsumerEnd, Wait};
use crate::error::{AttachError, RingError};
use crate::geometry::units;
use crate::memory::Memory;

/// Receives records of `N` words. What is in a record is the peer's claim: the ring checks indices, not content.
#[derive(Debug)]
pub struct Consumer<M, const N: usize> {
    end: ConsumerEnd<M>,
}

impl<M: Memory, const N: usize> Consumer<M, N> {
    /// Makes an empty ring, as long a power of two as fits. The peer attaches after this.
    ///
    /// # Errors
    ///
    /// [`AttachError::TooSmall`], when not one record fits; the memory is untouched.
    pub fn create(memory: M) -> Result<Self, AttachError> {
        let geometry = geometry::<N>(memory.words())?;
        Ok(Self { end: ConsumerEnd::create(memory, geometry) })
    }

    /// Takes up a ring that the peer, or an earlier consumer, made. The last time that this side reads its own index.
    ///
    /// # Errors
    ///
    /// When there is no such ring, or its indices contradict each other; the memory is untouched.
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let geometry = geometry::<N>(memory.words())?;
        Ok(Self { end: ConsumerEnd::attach(memory, geometry)? })
    }

    /// Returns how many records the ring holds.
    pub fn capacity(&self) -> usize {
        units(self.end.capacity)
    }

    /// Returns how many records can be taken now. Reads the peer's index.
    ///
    /// # Errors
    ///
    /// [`RingError::Corrupt`].
    pub fn available(&mut self) -> Result<usize, RingError> {
        self.end.available(self.end.capacity).map(units)
    }

    /// Copies a record out and keeps its room: several of them cost one [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// [`RingError::Empty`], [`RingError::Corrupt`]; nothing is taken.
    #[inline]
    pub fn take(&mut self) -> Result<[u64; N], RingError> {
        if self.end.available(1)? == 0 {
            return Err(RingError::Empty);
        }
        let mut record = [0; N];
        self.end.memory.copy_out(first_word::<N>(self.end.tail, self.end.capacity), &mut record);
        self.end.advance(1);
        Ok(record)
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

    /// Takes one record and releases its room.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    #[inline]
    pub fn pop(&mut self) -> Result<Popped<[u64; N]>, RingError> {
        let value = self.take()?;
        Ok(Popped { value, kick: self.release() })
    }

    /// Takes as many records as there are and `to` holds, and releases their room once.
    ///
    /// # Errors
    ///
    /// [`RingError::Empty`], [`RingError::Corrupt`]; `to` is untouched.
    pub fn pop_many(&mut self, to: &mut [[u64; N]]) -> Result<Popped<usize>, RingError> {
        self.end.sound()?;
        let mut count = 0;
        for record in to {
            match self.take() {
                Ok(taken) => *record = taken,
                Err(RingError::Empty | RingError::Corrupt(_)) if count > 0 => break,
                Err(refusal) => return Err(refusal),
            }
            count += 1;
        }
        Ok(Popped { value: count, kick: self.release() })
    }

    /// Asks the peer for a kick when `wanted` records are there. Release before waiting.
    ///
    /// # Errors
    ///
    /// [`RingError::Corrupt`]: nobody would kick.
    pub fn prepare_to_wait(&mut self, wanted: usize) -> Result<Wait, RingError> {
        self.end.prepare_to_wait(u64::try_from(wanted).unwrap_or(u64::MAX))
    }

    /// Starts anew after [`RingError::Corrupt`]: the ring is empty from here on, unread records are gone. One side at a
    /// time, when both know.
    pub fn reset(&mut self) {
        self.end.reset();
    }
}
