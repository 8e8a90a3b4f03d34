//! A value that a [`RawLock`] protects.
#![expect(unsafe_code, reason = "the lock, not the compiler, proves exclusive access")]

use crate::critical::Critical;
use crate::lock::RawLock;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

/// A value behind a spinlock. Not to be taken both inside and outside of interrupt handlers.
pub struct Lock<T> {
    raw: RawLock,
    value: UnsafeCell<T>,
}

// SAFETY: `raw` lets one processor at a time at the value; a value that may move between processors may be so shared.
unsafe impl<T: Send> Sync for Lock<T> {}

/// The value, until this is dropped. The holder is in a critical section.
#[must_use = "the lock is free again when this is dropped"]
pub struct Held<'a, T> {
    lock: &'a Lock<T>,
    /// Dropped after the lock is free: only then may the hypervisor take the CPU.
    _critical: Critical,
}

impl<T> Lock<T> {
    /// A free lock.
    pub const fn new(value: T) -> Self {
        Self { raw: RawLock::new(), value: UnsafeCell::new(value) }
    }

    /// Takes the lock, after waiting for it if need be.
    #[inline]
    pub fn lock(&self) -> Held<'_, T> {
        Held { lock: self, _critical: self.raw.acquire() }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<Held<'_, T>> {
        self.raw.try_acquire().map(|critical| Held { lock: self, _critical: critical })
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: a `Held` exists only while its holder has the raw lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and this `Held` is borrowed for writing.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.release();
    }
}
