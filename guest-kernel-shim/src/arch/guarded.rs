//! A value behind a lock word. [`Guard`] is the proof that its owner holds the word.
#![expect(unsafe_code, reason = "the lock word, not the compiler, proves exclusive access")]

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

/// The lock word when nobody holds the lock.
const FREE: u32 = 0;

/// A value that one holder at a time can reach. How a processor waits for it is up to the code above.
pub(crate) struct Guarded<T> {
    /// [`FREE`], or the holder's processor number plus one.
    holder: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: `holder` admits one processor at a time, so sharing the lock only moves the value between processors, which
// `T: Send` allows.
unsafe impl<T: Send> Sync for Guarded<T> {}

/// Access to the value; dropping it frees the lock.
#[must_use = "the value is free again when this is dropped"]
pub(crate) struct Guard<'a, T> {
    guarded: &'a Guarded<T>,
    _this_processor_only: PhantomData<*mut ()>,
}

impl<T> Guarded<T> {
    /// A value that nobody holds.
    pub(crate) const fn new(value: T) -> Self {
        Self { holder: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    /// Takes the lock for processor `index`, if it is free.
    #[inline]
    pub(crate) fn try_take(&self, index: usize) -> Option<Guard<'_, T>> {
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_VCPUS")]
        let holder = index as u32 + 1;
        self.holder.compare_exchange(FREE, holder, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(Guard { guarded: self, _this_processor_only: PhantomData })
    }

    /// Number of the processor that holds the lock.
    #[inline]
    pub(crate) fn holder(&self) -> Option<usize> {
        let holder = self.holder.load(Ordering::Relaxed);
        (holder as usize).checked_sub(1)
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: while a `Guard` exists, the lock word holds its owner's number, so nobody else reaches the value.
        unsafe { &*self.guarded.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; `self` is mutably borrowed, so this is the only reference.
        unsafe { &mut *self.guarded.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.guarded.holder.store(FREE, Ordering::Release);
    }
}
