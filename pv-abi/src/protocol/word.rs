//! One 64-bit word that two parties share, and what orders two of them.
//!
//! Every protocol here is written over [`Word`], so that the code that runs on `AtomicU64` in hypervisor and guest is the
//! code that loom explores on its own atomics. Orderings are fixed by the method, never chosen by a caller: `load` acquires,
//! `store` releases, a read-modify-write is a full barrier. loom does not model SeqCst loads and stores, so nothing here
//! uses them: where a store must be seen before a later load is done, [`Word::fence`], [`Word::store_fenced`] or a
//! read-modify-write stands between the two, since x86 lets a load pass an older store to another word, and lets nothing
//! pass a locked instruction (Intel SDM vol 3A, "Memory Ordering in P6 and More Recent Processor Families").
//!
//! On x86-64 each method is one instruction, `increment` and `decrement` included, but for `fetch_or` and `fetch_and` whose
//! old value is used: LOCK OR and LOCK AND return none, so the compiler loops over CMPXCHG. Drop the result on a hot path.
//!
//! ```
//! use core::sync::atomic::AtomicU64;
//! use pv_abi::protocol::word::Word;
//!
//! /// Works on shared memory, on `AtomicU64` and on a model checker's words alike.
//! fn take_all<W: Word>(pending: &W) -> u64 {
//!     pending.swap(0)
//! }
//!
//! let pending = AtomicU64::new(0b11);
//! assert_eq!(take_all(&pending), 0b11);
//! assert_eq!(take_all(&pending), 0);
//! ```

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

    /// Sets `bits`; returns the value before. A full barrier.
    fn fetch_or(&self, bits: u64) -> u64;

    /// Keeps only `bits`; returns the value before. A full barrier.
    fn fetch_and(&self, bits: u64) -> u64;

    /// Exchanges; returns the value before. A full barrier.
    fn swap(&self, value: u64) -> u64;

    /// Replaces `current` by `new`. A full barrier.
    ///
    /// # Errors
    ///
    /// The value found, where it is not `current`; the word is unchanged.
    fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64>;

    /// Makes every earlier store visible before any later load is done: MFENCE.
    fn fence();

    /// Writes, and lets no later load be done before the value is visible: one XCHG instead of a store and a fence.
    #[inline(always)]
    fn store_fenced(&self, value: u64) {
        self.swap(value);
    }

    /// Adds one, wrapping, without LOCK: for a word that one vCPU alone writes. An interrupt handler between load and store
    /// does no harm if it leaves the word as it found it.
    #[inline(always)]
    fn increment(&self) {
        self.store_relaxed(self.load_relaxed().wrapping_add(1));
    }

    /// Takes one away, wrapping, without LOCK: as [`increment`](Self::increment).
    #[inline(always)]
    fn decrement(&self) {
        self.store_relaxed(self.load_relaxed().wrapping_sub(1));
    }
}

/// Makes the read-modify-write next to it a full barrier where it is none by itself: in loom's model, which is the C++ one,
/// and on any other host that runs the tests. Not on x86-64, where the C++ model is stricter than the machine: LOCK is a full
/// barrier, and no compiler moves a load above an acquiring operation.
#[inline(always)]
fn barrier<W: Word>() {
    if cfg!(any(loom, not(target_arch = "x86_64"))) {
        W::fence();
    }
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
                barrier::<Self>();
                let before = self.fetch_or(bits, $($atomic)::+::Ordering::AcqRel);
                barrier::<Self>();
                before
            }

            #[inline(always)]
            fn fetch_and(&self, bits: u64) -> u64 {
                barrier::<Self>();
                let before = self.fetch_and(bits, $($atomic)::+::Ordering::AcqRel);
                barrier::<Self>();
                before
            }

            #[inline(always)]
            fn swap(&self, value: u64) -> u64 {
                barrier::<Self>();
                let before = self.swap(value, $($atomic)::+::Ordering::AcqRel);
                barrier::<Self>();
                before
            }

            #[inline(always)]
            fn compare_exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
                barrier::<Self>();
                let before = self.compare_exchange(
                    current,
                    new,
                    $($atomic)::+::Ordering::AcqRel,
                    $($atomic)::+::Ordering::Acquire,
                );
                barrier::<Self>();
                before
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
