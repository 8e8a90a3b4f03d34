//! Access to the words of a ring, whatever they lie in: a [`Region`](crate::Region), atomics of one program, or a model.

use core::sync::atomic::{AtomicU64, Ordering};
use pv_abi::protocol::word::Word;

/// Words that a peer may change at any time. Each access is one aligned 8-byte load or store.
///
/// An index that is not below [`words`](Self::words) is the caller's bug and panics; the rings never compute one, whatever
/// the peer writes.
pub trait Memory {
    /// Returns how many words there are; always the same number.
    fn words(&self) -> usize;

    /// Reads a word, unordered.
    fn load(&self, index: usize) -> u64;

    /// Writes a word, unordered.
    fn store(&self, index: usize, value: u64);

    /// Reads a word with Acquire: what the peer wrote before it is seen after.
    fn load_acquire(&self, index: usize) -> u64;

    /// Writes a word with Release: what was written before is seen by a peer that reads this value.
    fn store_release(&self, index: usize, value: u64);

    /// Makes every earlier store visible before any later load is done (SeqCst).
    #[inline]
    fn fence(&self) {
        <AtomicU64 as Word>::fence();
    }

    /// Reads as many words as `to` holds, from `index` on; each once, unordered.
    #[inline]
    fn copy_out(&self, index: usize, to: &mut [u64]) {
        for (at, word) in (index..).zip(to) {
            *word = self.load(at);
        }
    }

    /// Writes the words of `from`, from `index` on; each once, unordered.
    #[inline]
    fn copy_in(&self, index: usize, from: &[u64]) {
        for (at, word) in (index..).zip(from) {
            self.store(at, *word);
        }
    }
}

/// Words shared by the threads of one program: rings between two of its parts, host tests, benchmarks.
impl Memory for &[AtomicU64] {
    #[inline]
    fn words(&self) -> usize {
        self.len()
    }

    #[inline]
    fn load(&self, index: usize) -> u64 {
        self[index].load(Ordering::Relaxed)
    }

    #[inline]
    fn store(&self, index: usize, value: u64) {
        self[index].store(value, Ordering::Relaxed);
    }

    #[inline]
    fn load_acquire(&self, index: usize) -> u64 {
        self[index].load(Ordering::Acquire)
    }

    #[inline]
    fn store_release(&self, index: usize, value: u64) {
        self[index].store(value, Ordering::Release);
    }

    #[inline]
    fn copy_out(&self, index: usize, to: &mut [u64]) {
        let from = &self[index..index + to.len()];
        for (word, atomic) in to.iter_mut().zip(from) {
            *word = atomic.load(Ordering::Relaxed);
        }
    }

    #[inline]
    fn copy_in(&self, index: usize, from: &[u64]) {
        let to = &self[index..index + from.len()];
        for (atomic, word) in to.iter().zip(from) {
            atomic.store(*word, Ordering::Relaxed);
        }
    }
}
