//! Cache lines of 64-bit words that this kernel shares with the hypervisor.
#![expect(unsafe_code, reason = "turns an address where MAP placed a table into a reference to atomics")]

use core::sync::atomic::{AtomicU8, AtomicU64};

/// Eight words that somebody else may read or write at any time; so they are atomics, and nothing else is assumed.
#[repr(C, align(64))]
pub(crate) struct Line(pub [AtomicU64; 8]);

impl Line {
    /// A line of zeroes: always safe, says the ABI.
    pub(crate) const fn zero() -> Self {
        Self([const { AtomicU64::new(0) }; 8])
    }

    /// The lowest byte of a word.
    pub(crate) fn byte(&self, word: usize) -> Option<&AtomicU8> {
        // SAFETY: a byte inside a live atomic word; every byte pattern is valid. Other processors only read it.
        self.0.get(word).map(|word| unsafe { AtomicU8::from_ptr(word.as_ptr().cast()) })
    }

    /// The line at an address.
    ///
    /// # Safety
    ///
    /// From now on 64 bytes at `address` are mapped memory, aligned to 64, that Rust uses through [`Line`] only; they are
    /// writable, or the caller only loads from them.
    pub(crate) unsafe fn at(address: u64) -> &'static Self {
        let address = usize::try_from(address).unwrap_or(0);
        // SAFETY: the caller promises what a reference to atomics needs.
        unsafe { &*core::ptr::with_exposed_provenance(address) }
    }
}
