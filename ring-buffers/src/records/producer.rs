//! The sending end of a record ring.

use super::{first_word, geometry};
use crate::Pushed;
use crate::ends::{ProducerEnd, Wait};
use crate::error::{AttachError, RingError};
use crate::geometry::units;
use crate::memory::Memory;

/// Sends records of `N` words.
#[derive(Debug)]
pub struct Producer<M, const N: usize> {
    end: ProducerEnd<M>,
}

impl<M: Memory, const N: usize> Producer<M, N> {
    /// Makes an empty ring, as long a power of two as fits. The peer attaches after this.
    ///
    /// # Errors
    ///
    /// [`AttachError::TooSmall`], when not one record fits; the memory is untouched.
    pub fn create(memory: M) -> Result<Self, AttachError> {
        let geometry = geometry::<N>(memory.words())?;
        Ok(Self { end: ProducerEnd::create(memory, geometry) })
    }

    /// Takes up a ring that the peer, or an earlier producer, made. The last time that this side reads its own index.
    ///
    /// # Errors
    ///
    /// When there is no such ring, or its indices contradict each other; the memory is untouched.
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let geometry = geometry::<N>(memory.words())?;
        Ok(Self { end: ProducerEnd::attach(memory, geometry)? })
    }

    /// Returns how many records the ring holds.
    pub fn capacity(&self) -> usize {
        units(self.end.capacity)
    }

    /// Returns how many records can be staged now. Reads the peer's index.
    ///
    /// # Errors
    ///
    /// [`RingError::Corrupt`].
    pub fn room(&mut self) -> Result<usize, RingError> {
        self.end.room(self.end.capacity).map(units)
    }

    /// Writes a record without showing it: several of them cost one [`commit`](Self::commit).
    ///
    /// # Errors
    ///
    /// [`RingError::Full`], [`RingError::Corrupt`]; nothing is staged.
    #[inline]
    pub fn stage(&mut self, record: &[u64; N]) -> Result<(), RingError> {
        if self.end.room(1)? == 0 {
            return Err(RingError::Full);
        }
        self.end.memory.copy_in(first_word::<N>(self.end.head, self.end.capacity), record);
        self.end.advance(1);
        Ok(())
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

    /// Stages and commits one record.
    ///
    /// # Errors
    ///
    /// As [`stage`](Self::stage); nothing is sent.
    #[inline]
    pub fn push(&mut self, record: &[u64; N]) -> Result<Pushed, RingError> {
        self.stage(record)?;
        Ok(Pushed { count: 1, kick: self.commit() })
    }

    /// Stages and commits as many of `records` as there is room for, the first ones.
    ///
    /// # Errors
    ///
    /// [`RingError::Full`] where there is no room for any, [`RingError::Corrupt`]; nothing is sent.
    pub fn push_many(&mut self, records: &[[u64; N]]) -> Result<Pushed, RingError> {
        self.end.sound()?;
        let mut count = 0;
        for record in records {
            match self.stage(record) {
                Ok(()) => count += 1,
                Err(RingError::Full) if count > 0 => break,
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Pushed { count, kick: self.commit() })
    }

    /// Asks the peer for a kick when `wanted` records can be staged. Commit before waiting.
    ///
    /// # Errors
    ///
    /// [`RingError::Corrupt`]: nobody would kick.
    pub fn prepare_to_wait(&mut self, wanted: usize) -> Result<Wait, RingError> {
        self.end.prepare_to_wait(u64::try_from(wanted).unwrap_or(u64::MAX))
    }

    /// Starts anew after [`RingError::Corrupt`]: the ring is empty from here on, staged and unread records are gone. One
    /// side at a time, when both know.
    pub fn reset(&mut self) {
        self.end.reset();
    }
}
