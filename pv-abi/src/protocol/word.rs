//! One 64-bit word that two parties share, and the fence that orders two of them.
//!
//! Every protocol here is written over [`Word`], so that the code that runs on `AtomicU64` in hypervisor and guest is the
//! code that loom explores on its own atomics. Orderings are fixed by the method, never chosen by a caller: `load` acquires,
//! `store` releases, a read-modify-write does both (on x86 a LOCK instruction, a full barrier). loom does not model SeqCst
//! loads and stores, so nothing here uses them: where a store must be seen before a later load is done, [`Word::fence`]
//! stands between the two, as the x86 memory model asks for (Intel SDM vol 3A §9.2.3.4, "loads may be reordered with
//! earlier stores to different locations").
//!
//! On x86-64 each method is one instruction, but for `fetch_or` and `fetch_and` whose old value is used: LOCK OR and LOCK
//! AND return none, so the compiler loops over CMPXCHG. Drop the result, or use `swap`, on a hot path.

/// A shared 64-bit word. Whoever holds another kind of access (a checked guest address, say) implements it too.
pub trait Word {
    /// Reads once, with Acquire: what the writer stored before is seen after.
    fn load(&self) -> u64;

    /// Reads once, unordered: for a word whose value alone matters.
    fn load_relaxed(&self) -> u64;

    /// Writes with Release: what was written before is seen by whoever reads this value.
    fn store(&self, value: u64);

    /// Writes, unordered: for a word whose value alone matters, or where a [`fence`](Self::fence) follows.
    fn store_relaxed(&self, value: u64);

    /// Sets `bits` in one LOCK operation, returns the value before.
    fn fetch_or(&self, bits: u64) -> u64;

    /// Keeps only `bits` in one LOCK operation, returns the value before.
    fn fetch_and(&self, bits: u64) -> u64;

    /// Exchanges in one LOCK operation, returns the value before.
    fn swap(&self, value: u64) -> u64;

    /// Replaces `current` by `new` in one LOCK operation.
    ///
    /// # Errors
    ///
    /// The value found, where it is not `current`; the word is unchanged.
    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64>;

    /// Makes every earlier store visible before any later load is done (SeqCst; MFENCE or a LOCK instruction).
    fn fence();
}

/// Implements [`Word`] for the `AtomicU64` of one of the two worlds, so that both get the same orderings.
macro_rules! word_for_atomics_of {
    ($($atomic:ident)::+) => {
        impl Word for $($atomic)::+::AtomicU64 {
            #[inline(always)]
            fn load(&self) -> u64 {
                self.load($($atomic)::+::Ordering::Acquire)
            }

            #[inline(always)]
            fn load_relaxed(&self) -> u64 {
                self.load($($atomic)::+::Ordering::Relaxed)
            }

            #[inline(always)]
            fn store(&self, value: u64) {
                self.store(value, $($atomic)::+::Ordering::Release);
            }

            #[inline(always)]
            fn store_relaxed(&self, value: u64) {
                self.store(value, $($atomic)::+::Ordering::Relaxed);
            }

            #[inline(always)]
            fn fetch_or(&self, bits: u64) -> u64 {
                self.fetch_or(bits, $($atomic)::+::Ordering::AcqRel)
            }

            #[inline(always)]
            fn fetch_and(&self, bits: u64) -> u64 {
                self.fetch_and(bits, $($atomic)::+::Ordering::AcqRel)
            }

            #[inline(always)]
            fn swap(&self, value: u64) -> u64 {
                self.swap(value, $($atomic)::+::Ordering::AcqRel)
            }

            #[inline(always)]
            fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
                self.compare_exchange(
                    current,
                    new,
                    $($atomic)::+::Ordering::AcqRel,
                    $($atomic)::+::Ordering::Acquire,
                )
            }

            #[inline(always)]
            fn fence() {
                $($atomic)::+::fence($($atomic)::+::Ordering::SeqCst);
            }
        }
    };
}

word_for_atomics_of!(core::sync::atomic);
#[cfg(loom)]
word_for_atomics_of!(loom::sync::atomic);
