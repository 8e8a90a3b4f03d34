//! Memory by address: the only file of this crate that dereferences. No reference into the memory exists, let alone
//! leaves: each access makes one atomic load or store out of the pointer, so that a peer that writes meanwhile is a race of
//! values, which the rings check, and not undefined behaviour.
#![expect(
    unsafe_code,
    reason = "atomic accesses through the pointer to shared memory; every block carries SAFETY"
)]

use crate::memory::Memory;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// A range of shared memory, given by its address.
#[derive(Debug)]
pub struct Region {
    first: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: every access through a `Region` is atomic, and `Region::new` demands that the memory stays for as long as the
// region lives, whichever thread holds it then.
unsafe impl Send for Region {}

impl Region {
    /// Makes a region of `words` 8-byte words at `first`.
    ///
    /// # Safety
    ///
    /// - `first` is aligned to 8 bytes, and `words * 8` bytes from it on are mapped, readable and writable, and stay so
    ///   until the region is dropped.
    /// - In that time this program touches those bytes by aligned 8-byte atomic accesses only. Another guest, or the
    ///   hypervisor, may do with them what it likes.
    pub const unsafe fn new(first: NonNull<u64>, words: usize) -> Self {
        Self { first: first.cast(), words }
    }

    /// Returns the address of the first of `count` words.
    ///
    /// # Panics
    ///
    /// When they are not all there.
    #[inline(always)]
    fn at(&self, index: usize, count: usize) -> NonNull<AtomicU64> {
        if count > self.words || index > self.words - count {
            outside(index, count, self.words);
        }
        // SAFETY: `index` is at most `words` (checked), so the address lies in the range that `new` was promised, or at its
        // end when `count` is 0.
        unsafe { self.first.add(index) }
    }
}

/// Ends with a message; apart, so that the accesses stay a compare and a move.
#[expect(
    clippy::panic,
    reason = "a bug of this crate: the rings compute no such index, whatever the peer writes"
)]
#[cold]
#[inline(never)]
fn outside(index: usize, count: usize, words: usize) -> ! {
    panic!("{count} words from {index} on, of a region of {words}")
}

impl Memory for Region {
    #[inline(always)]
    fn words(&self) -> usize {
        self.words
    }

    #[inline(always)]
    fn load(&self, index: usize) -> u64 {
        // SAFETY: `at` gives an aligned word that is mapped for as long as `self` lives and accessed atomically by everybody
        // in this program (contract of `new`).
        unsafe { self.at(index, 1).as_ref() }.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn store(&self, index: usize, value: u64) {
        // SAFETY: as in `load`; the range is writable too.
        unsafe { self.at(index, 1).as_ref() }.store(value, Ordering::Relaxed);
    }

    #[inline(always)]
    fn load_acquire(&self, index: usize) -> u64 {
        // SAFETY: as in `load`.
        unsafe { self.at(index, 1).as_ref() }.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn store_release(&self, index: usize, value: u64) {
        // SAFETY: as in `store`.
        unsafe { self.at(index, 1).as_ref() }.store(value, Ordering::Release);
    }

    #[inline(always)]
    fn copy_out(&self, index: usize, to: &mut [u64]) {
        let first = self.at(index, to.len());
        for (offset, word) in to.iter_mut().enumerate() {
            // SAFETY: as in `load`; `offset` is below the count that `at` checked.
            *word = unsafe { first.add(offset).as_ref() }.load(Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn copy_in(&self, index: usize, from: &[u64]) {
        let first = self.at(index, from.len());
        for (offset, word) in from.iter().enumerate() {
            // SAFETY: as in `store`; `offset` is below the count that `at` checked.
            unsafe { first.add(offset).as_ref() }.store(*word, Ordering::Relaxed);
        }
    }
}
