//! Cache lines of 64-bit words that this kernel shares with the hypervisor.
#![expect(unsafe_code, reason = "turns an address where MAP placed a table into a reference to atomics")]

use core::sync::atomic::AtomicU64;

/// Eight words that somebody else may read or write at any time; so they are atomics, and nothing else is assumed.
#[repr(C, align(64))]
pub(crate) struct Line(pub [AtomicU64; 8]);

impl Line {
    /// A line of zeroes: always safe, says the ABI.
    pub(crate) const fn zero() -> Self {
        Self([const { AtomicU64::new(0) }; 8])
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
