//! What the Comity hypervisor and its guests agree on: plain data, one file a structure.
//!
//! A guest finds the hypervisor by [`cpuid`], calls it as [`call`] says, and shares four tables with it: [`demand`]
//! (the guest writes), [`status`] (the hypervisor writes), [`event`] (both, by LOCK operations) and [`board`] (the
//! hypervisor writes, for a trust group). Each table begins with a [`header`]. `docs/src/abi.md` is the text to read
//! first; [`VERSION`] is what it describes.
//!
//! Three principles hold everywhere. A guest *describes, never commands*. The reader takes each word *once*, clamps the
//! copy and uses only that. *All-zero is always safe*: off CPU, nothing armed, nothing granted, nobody visible.
//!
//! ```
//! use pv_abi::{VERSION, Version};
//!
//! // A guest works with any hypervisor of its major version; the minor one says what was added since.
//! let (major, minor) = (VERSION.packed() >> 16, VERSION.packed() & 0xffff);
//! assert_eq!((major, minor), (1, 1));
//! assert!(VERSION >= Version { major: 1, minor: 0 });
//! ```
#![no_std]
#![forbid(unsafe_code)]

pub mod board;
pub mod call;
pub mod cpuid;
pub mod demand;
pub mod event;
pub mod header;
#[cfg(loom)]
pub mod model;
pub mod protocol;
pub mod status;
pub mod table;

/// Version of the ABI: an incompatible change raises the first number, an addition the second.
pub const VERSION: Version = Version { major: 1, minor: 1 };

/// A version of the ABI.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version {
    /// Raised by an incompatible change.
    pub major: u16,
    /// Raised by an addition.
    pub minor: u16,
}

impl Version {
    /// The version as CPUID and INFO give it: major in bits 31:16, minor in bits 15:0.
    pub const fn packed(self) -> u32 {
        (self.major as u32) << 16 | self.minor as u32
    }
}

/// Bytes in a page of shared memory.
pub const PAGE_BYTES: usize = 4096;
/// Most vCPUs a guest may have; every table has room for as many rows.
pub const MAX_VCPUS: usize = 64;
