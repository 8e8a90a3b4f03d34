//! Cache lines of 64-bit words that this kernel shares with the hypervisor.
#![expect(unsafe_code, reason = "turns an address where MAP placed a table into a reference to atomics")]

use core::sync::atomic::AtomicU64;

/// Eight words that the hypervisor may read or write at any time. So they are atomics, and the kernel assumes nothing
/// about their values.
#[repr(C, align(64))]
pub(crate) struct Line(pub [AtomicU64; 8]);

impl Line {
    /// A line of zeroes, which is a valid value of every row of the ABI.
    pub(crate) const fn zero() -> Self {
        Self([const { AtomicU64::new(0) }; 8])
    }

    /// The line at an address.
    ///
    /// # Safety
    ///
    /// From now on, 64 bytes at `address` are mapped, aligned to 64, and used by Rust through [`Line`] only. They are
    /// writable, or the caller only loads from them.
    pub(crate) unsafe fn at(address: u64) -> &'static Self {
        let address = usize::try_from(address).unwrap_or(0);
        // SAFETY: the caller promises mapped, aligned memory that is used through atomics only.
        unsafe { &*core::ptr::with_exposed_provenance(address) }
    }
}
