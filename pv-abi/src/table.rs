//! Which tables there are, and where in them the arrays lie.
//!
//! One rule for all: the first page holds the header and what is guest-wide, and each array begins on a page of its own
//! (docs/decisions/0001). So row `n` of an array is at `page · 4096 + n · row bytes`.
//!
//! ```
//! use pv_abi::demand::VcpuDemand;
//! use pv_abi::table::{DEMAND_PAGES, DEMAND_ROWS, Table};
//!
//! // Where the demand row of vCPU 3 lies in its table.
//! let offset = DEMAND_ROWS + 3 * size_of::<VcpuDemand>();
//! assert_eq!(offset, 4096 + 192);
//! assert!(offset < DEMAND_PAGES * pv_abi::PAGE_BYTES);
//!
//! // What MAP is told for the second channel of this guest.
//! assert_eq!(Table::channel(1), Table(17));
//! ```

use crate::PAGE_BYTES;

/// A table, as MAP names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct Table(pub u64);

impl Table {
    /// The guest's demand: read-write for the guest. See [`crate::demand`].
    pub const DEMAND: Self = Self(0);
    /// What the hypervisor tells the guest: read-only for the guest. See [`crate::status`].
    pub const STATUS: Self = Self(1);
    /// Events: read-write for both. See [`crate::event`].
    pub const EVENT: Self = Self(2);
    /// Reserved: the board of a trust group. See [`crate::board`].
    pub const BOARD: Self = Self(3);
    /// The console: a byte ring to the hypervisor, [`CONSOLE_RING_BYTES`]; the second page is reserved for one from it.
    pub const CONSOLE: Self = Self(4);
    /// The first channel of this guest; channel `n` is `CHANNEL_0 + n`, in the order of the configuration.
    pub const CHANNEL_0: Self = Self(16);

    /// The table of channel `n`.
    pub const fn channel(n: u8) -> Self {
        Self(Self::CHANNEL_0.0 + n as u64)
    }
}

/// Pages in the demand table.
pub const DEMAND_PAGES: usize = 2;
/// Offset of the guest-wide demand row.
pub const DEMAND_GUEST_ROW: usize = 64;
/// Offset of the array of sub-accounts, 64 bytes each.
pub const DEMAND_ACCOUNTS: usize = 2048;
/// Sub-accounts a guest has room for.
pub const MAX_ACCOUNTS: usize = 32;
/// Offset of the array of vCPU rows, 64 bytes each.
pub const DEMAND_ROWS: usize = PAGE_BYTES;

/// Pages in the status table.
pub const STATUS_PAGES: usize = 4;
/// Offset of the array of hot lines, 64 bytes each.
pub const STATUS_HOT: usize = PAGE_BYTES;
/// Offset of the array of statistics, 128 bytes each.
pub const STATUS_STATISTICS: usize = 2 * PAGE_BYTES;

/// Pages in the event table.
pub const EVENT_PAGES: usize = 2;
/// Offset of the array of event lines, 64 bytes each.
pub const EVENT_LINES: usize = PAGE_BYTES;

/// Pages in the console table.
pub const CONSOLE_PAGES: usize = 2;
/// Bytes in each of the console's two rings, its header included.
pub const CONSOLE_RING_BYTES: usize = PAGE_BYTES;

const _: () = {
    assert!(DEMAND_ACCOUNTS + MAX_ACCOUNTS * 64 <= DEMAND_ROWS);
    assert!(DEMAND_ROWS + crate::MAX_VCPUS * 64 == DEMAND_PAGES * PAGE_BYTES);
    assert!(STATUS_HOT + crate::MAX_VCPUS * 64 == STATUS_STATISTICS);
    assert!(STATUS_STATISTICS + crate::MAX_VCPUS * 128 == STATUS_PAGES * PAGE_BYTES);
    assert!(EVENT_LINES + crate::MAX_VCPUS * 64 == EVENT_PAGES * PAGE_BYTES);
};
