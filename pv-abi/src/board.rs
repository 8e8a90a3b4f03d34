//! What a trust group sees of one another. The layout is reserved: MAP refuses the board in this version.
//!
//! ```
//! use pv_abi::board::{CpuLine, GuestLine};
//!
//! // A line is one cache line, and one of zeroes says: nobody waits here.
//! assert_eq!(size_of::<CpuLine>(), size_of::<GuestLine>());
//! assert_eq!(CpuLine::default().waiting, 0);
//! ```

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One processor, refreshed at most once in 50 µs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CpuLine {
    /// vCPUs of the group that wait here.
    pub waiting: u64,
    /// The nearest deadline among them, as a power of two of µs ahead; 0 = none.
    pub deadline_bucket: u64,
    /// 0 … 1,000: thousandths of the last epoch in which somebody waited.
    pub pressure: u64,
    /// Zero.
    pub reserved: [u64; 5],
}

/// One guest of the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GuestLine {
    /// Runnable tasks, as a power of two.
    pub demand_bucket: u64,
    /// 0 … 1,000.
    pub memory_pressure: u64,
    /// Its weight.
    pub entitlement: u64,
    /// 0 = even, 1 = it is owed service, 2 = it owes.
    pub lag_sign: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

const _: () = assert!(size_of::<CpuLine>() == 64 && size_of::<GuestLine>() == 64);
