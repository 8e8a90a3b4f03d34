//! A value behind a lock word, and the proof that the word is held.
#![expect(unsafe_code, reason = "the lock word, not the compiler, proves exclusive access")]

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

/// Nobody holds the value.
const FREE: u32 = 0;

/// A value that one holder at a time reaches. Who waits, and how, is for the code above.
pub(crate) struct Guarded<T> {
    /// [`FREE`], or the holder's number and one.
    holder: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: `holder` lets one processor at a time at the value; a value that may move between processors may be so shared.
unsafe impl<T: Send> Sync for Guarded<T> {}

/// The value, until this is dropped.
#[must_use = "the value is free again when this is dropped"]
pub(crate) struct Guard<'a, T> {
    guarded: &'a Guarded<T>,
    _this_processor_only: PhantomData<*mut ()>,
}

impl<T> Guarded<T> {
    /// A free value.
    pub(crate) const fn new(value: T) -> Self {
        Self { holder: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    /// Takes the value for processor `index`, if it is free.
    #[inline]
    pub(crate) fn try_take(&self, index: usize) -> Option<Guard<'_, T>> {
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_VCPUS")]
        let holder = index as u32 + 1;
        self.holder.compare_exchange(FREE, holder, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(Guard { guarded: self, _this_processor_only: PhantomData })
    }

    /// Number of the processor that holds the value.
    #[inline]
    pub(crate) fn holder(&self) -> Option<usize> {
        let holder = self.holder.load(Ordering::Relaxed);
        (holder as usize).checked_sub(1)
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: a `Guard` exists only while its holder's number is in the lock word.
        unsafe { &*self.guarded.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and this `Guard` is borrowed for writing.
        unsafe { &mut *self.guarded.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.guarded.holder.store(FREE, Ordering::Release);
    }
}
