//! The consumer's end.

use super::{Wait, checked, went_past};
use crate::error::{AttachError, Corrupt, RingError};
use crate::geometry::{CONSUMER_INDEX, CONSUMER_NEED_KICK, Geometry, PRODUCER_INDEX, PRODUCER_NEED_KICK};
use crate::memory::Memory;

/// Availability, release and kicks, for units of any kind. `tail` counts what was taken, `released` what the producer may
/// write over.
#[derive(Debug)]
pub(crate) struct ConsumerEnd<M> {
    pub memory: M,
    pub capacity: u64,
    pub tail: u64,
    released: u64,
    /// Releases up to here were compared with the producer's need_kick.
    kicked: u64,
    /// The producer's index when it was last read.
    head: u64,
    corrupt: Option<Corrupt>,
}

impl<M: Memory> ConsumerEnd<M> {
    /// Makes an empty ring in `memory`.
    pub fn create(memory: M, geometry: Geometry) -> Self {
        geometry.create(&memory);
        let capacity = geometry.capacity;
        Self { memory, capacity, tail: 0, released: 0, kicked: 0, head: 0, corrupt: None }
    }

    /// Takes up the ring that is in `memory`, where its last consumer left off.
    pub fn attach(memory: M, geometry: Geometry) -> Result<Self, AttachError> {
        geometry.check(&memory)?;
        let capacity = geometry.capacity;
        let tail = memory.load(CONSUMER_INDEX);
        let head = memory.load_acquire(PRODUCER_INDEX);
        let head = checked(head, tail, tail.wrapping_add(capacity)).map_err(AttachError::Corrupt)?;
        // The last consumer may have released without a kick: whatever the producer can wait for counts as new.
        let kicked = tail.wrapping_sub(capacity);
        Ok(Self { memory, capacity, tail, released: tail, kicked, head, corrupt: None })
    }

    /// Forgets a corrupt past: takes the producer's index, whatever it is, for both, so that the ring is empty.
    pub fn reset(&mut self) {
        let head = self.memory.load_acquire(PRODUCER_INDEX);
        self.head = head;
        self.tail = head;
        self.released = head;
        self.kicked = head.wrapping_sub(self.capacity);
        self.corrupt = None;
        self.memory.store_release(CONSUMER_INDEX, head);
    }

    /// Returns how many units can be taken. The peer's index is read only when fewer than `wanted` are known to be there.
    #[inline(always)]
    pub fn available(&mut self, wanted: u64) -> Result<u64, RingError> {
        let known = self.head.wrapping_sub(self.tail);
        if known >= wanted { Ok(known) } else { self.look() }
    }

    /// Reads the producer's index and returns how many units are there.
    #[inline]
    fn look(&mut self) -> Result<u64, RingError> {
        self.sound()?;
        let highest = self.released.wrapping_add(self.capacity);
        match checked(self.memory.load_acquire(PRODUCER_INDEX), self.head, highest) {
            Ok(head) => {
                self.head = head;
                Ok(head.wrapping_sub(self.tail))
            }
            Err(corrupt) => Err(self.refuse(corrupt)),
        }
    }

    /// Refuses everything from here on. With nothing known to be there, every operation comes to [`sound`](Self::sound).
    #[cold]
    fn refuse(&mut self, corrupt: Corrupt) -> RingError {
        self.head = self.tail;
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

    /// Counts `count` units as taken; the caller copied them out.
    #[inline(always)]
    pub fn advance(&mut self, count: u64) {
        self.tail = self.tail.wrapping_add(count);
    }

    /// Gives the room of what was taken back to the producer.
    #[inline(always)]
    pub fn release(&mut self) {
        self.released = self.tail;
        self.memory.store_release(CONSUMER_INDEX, self.tail);
    }

    /// Says whether a kick is due for what was released since the last call.
    #[inline(always)]
    pub fn owes_kick(&mut self) -> bool {
        if self.kicked == self.released {
            return false;
        }
        self.memory.fence();
        let from = core::mem::replace(&mut self.kicked, self.released);
        went_past(self.memory.load(PRODUCER_NEED_KICK), from, self.released)
    }

    /// Asks for a kick when `wanted` units are there, and looks again. Units taken but not released keep the producer from
    /// filling their room: no more than the rest is waited for.
    pub fn prepare_to_wait(&mut self, wanted: u64) -> Result<Wait, RingError> {
        let taken = self.tail.wrapping_sub(self.released);
        self.sound()?;
        let wanted = wanted.min(self.capacity - taken);
        if self.available(wanted)? >= wanted {
            return Ok(Wait::Proceed);
        }
        let need_kick = self.tail.wrapping_add(wanted).wrapping_sub(1);
        self.memory.store(CONSUMER_NEED_KICK, need_kick);
        self.memory.fence();
        if self.look()? >= wanted { Ok(Wait::Proceed) } else { Ok(Wait::Sleep) }
    }
}
