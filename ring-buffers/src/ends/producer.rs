//! The producer's end.

use super::{Wait, checked, went_past};
use crate::error::{AttachError, Corrupt, RingError};
use crate::geometry::{CONSUMER_INDEX, CONSUMER_NEED_KICK, Geometry, PRODUCER_INDEX, PRODUCER_NEED_KICK};
use crate::memory::Memory;

/// Room, publication and kicks, for units of any kind. `head` counts what was staged, `published` what the consumer may see.
#[derive(Debug)]
pub(crate) struct ProducerEnd<M> {
    pub memory: M,
    pub capacity: u64,
    pub head: u64,
    published: u64,
    /// Commits up to here were compared with the consumer's need_kick.
    kicked: u64,
    /// The consumer's index when it was last read.
    tail: u64,
    corrupt: Option<Corrupt>,
}

impl<M: Memory> ProducerEnd<M> {
    /// Makes an empty ring in `memory`.
    pub fn create(memory: M, geometry: Geometry) -> Self {
        geometry.create(&memory);
        let capacity = geometry.capacity;
        Self { memory, capacity, head: 0, published: 0, kicked: 0, tail: 0, corrupt: None }
    }

    /// Takes up the ring that is in `memory`, where its last producer left off.
    pub fn attach(memory: M, geometry: Geometry) -> Result<Self, AttachError> {
        geometry.check(&memory)?;
        let capacity = geometry.capacity;
        let head = memory.load(PRODUCER_INDEX);
        let tail = memory.load_acquire(CONSUMER_INDEX);
        let tail = checked(tail, head.wrapping_sub(capacity), head).map_err(AttachError::Corrupt)?;
        // The last producer may have published without a kick: whatever the consumer can wait for counts as new.
        let kicked = head.wrapping_sub(capacity);
        Ok(Self { memory, capacity, head, published: head, kicked, tail, corrupt: None })
    }

    /// Forgets a corrupt past: takes the consumer's index, whatever it is, for both, so that the ring is empty.
    pub fn reset(&mut self) {
        let tail = self.memory.load_acquire(CONSUMER_INDEX);
        self.tail = tail;
        self.head = tail;
        self.published = tail;
        self.kicked = tail.wrapping_sub(self.capacity);
        self.corrupt = None;
        self.memory.store_release(PRODUCER_INDEX, tail);
    }

    /// Returns how many units can be staged. The peer's index is read only when fewer than `wanted` are known to be free.
    #[inline(always)]
    pub fn room(&mut self, wanted: u64) -> Result<u64, RingError> {
        let known = self.capacity - self.head.wrapping_sub(self.tail);
        if known >= wanted { Ok(known) } else { self.look() }
    }

    /// Reads the consumer's index and returns how many units are free.
    #[inline]
    fn look(&mut self) -> Result<u64, RingError> {
        self.sound()?;
        match checked(self.memory.load_acquire(CONSUMER_INDEX), self.tail, self.published) {
            Ok(tail) => {
                self.tail = tail;
                Ok(self.capacity - self.head.wrapping_sub(tail))
            }
            Err(corrupt) => Err(self.refuse(corrupt)),
        }
    }

    /// Refuses everything from here on. With nothing known to be free, every operation comes to [`sound`](Self::sound).
    #[cold]
    fn refuse(&mut self, corrupt: Corrupt) -> RingError {
        self.tail = self.head.wrapping_sub(self.capacity);
        self.corrupt = Some(corrupt);
        RingError::Corrupt(corrupt)
    }

    /// Refuses if the peer was found to claim the impossible.
    #[inline(always)]
    pub fn sound(&self) -> Result<(), RingError> {
        match self.corrupt {
            None => Ok(()),
            Some(corrupt) => Err(RingError::Corrupt(corrupt)),
        }
    }

    /// Counts `count` units as staged; the caller has room for them and wrote them.
    #[inline(always)]
    pub fn advance(&mut self, count: u64) {
        self.head = self.head.wrapping_add(count);
    }

    /// Shows the consumer what was staged.
    #[inline(always)]
    pub fn publish(&mut self) {
        self.published = self.head;
        self.memory.store_release(PRODUCER_INDEX, self.head);
    }

    /// Says whether a kick is due for what was published since the last call.
    #[inline(always)]
    pub fn owes_kick(&mut self) -> bool {
        if self.kicked == self.published {
            return false;
        }
        self.memory.fence();
        let from = core::mem::replace(&mut self.kicked, self.published);
        went_past(self.memory.load(CONSUMER_NEED_KICK), from, self.published)
    }

    /// Asks for a kick when `wanted` units are free, and looks again. Staged units take room that only a commit frees: no
    /// more than the rest is waited for.
    pub fn prepare_to_wait(&mut self, wanted: u64) -> Result<Wait, RingError> {
        let staged = self.head.wrapping_sub(self.published);
        self.sound()?;
        let wanted = wanted.min(self.capacity - staged);
        if self.room(wanted)? >= wanted {
            return Ok(Wait::Proceed);
        }
        // Room is `wanted` once the consumer's index is past the one before `head + wanted - capacity`.
        let need_kick = self.head.wrapping_add(wanted).wrapping_sub(self.capacity).wrapping_sub(1);
        self.memory.store(PRODUCER_NEED_KICK, need_kick);
        self.memory.fence();
        if self.look()? >= wanted { Ok(Wait::Proceed) } else { Ok(Wait::Sleep) }
    }
}
