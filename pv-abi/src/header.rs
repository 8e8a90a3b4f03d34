//! The first 64 bytes of every table.
//!
//! ```
//! use pv_abi::header::{Header, MAGIC};
//! use zerocopy::FromBytes;
//!
//! // A guest copies the first 64 bytes of a table and looks at the copy.
//! let mut table = [0; 4096];
//! table[..4].copy_from_slice(&MAGIC.to_le_bytes());
//! table[4..6].copy_from_slice(&pv_abi::VERSION.major.to_le_bytes());
//! let (header, _rows) = Header::read_from_prefix(&table).map_err(|_| "shorter than a header")?;
//! assert_eq!((header.magic, header.major), (MAGIC, pv_abi::VERSION.major));
//! # Ok::<(), &str>(())
//! ```

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Says what the table is and how its rows lie. The hypervisor writes it when the guest is made and after a restart,
/// and never reads it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u32,
    /// Major version of the ABI; a guest that does not know it must not use the table.
    pub major: u16,
    /// Minor version of the ABI.
    pub minor: u16,
    /// Bytes in the whole table.
    pub size_bytes: u32,
    /// Rows in each array: vCPUs of this guest.
    pub row_count: u32,
    /// Bytes in a row of the first array: 64 or 128.
    pub row_bytes: u32,
    /// Zero.
    pub reserved: u32,
    /// [`crate::cpuid::Features`], widened.
    pub features: u64,
    /// How often this guest was started before: a change means that everything else was forgotten.
    pub generation: u64,
    /// Frequency of the guest's TSC, in kHz.
    pub tsc_khz: u64,
    /// Unix time in nanoseconds when the guest's TSC was zero.
    pub wall_ns: u64,
    /// Nanoseconds a tick, as a binary fraction with 32 bits behind the point: `ns = (tsc · mul) >> 32`.
    pub tsc_to_ns_mul: u64,
}

/// "CMTY", little-endian.
pub const MAGIC: u32 = u32::from_le_bytes(*b"CMTY");

const _: () = {
    assert!(size_of::<Header>() == 64);
    assert!(core::mem::offset_of!(Header, features) == 24);
    assert!(core::mem::offset_of!(Header, tsc_to_ns_mul) == 56);
};
