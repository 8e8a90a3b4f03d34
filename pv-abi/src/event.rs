//! Events: 64 bits a vCPU that others set. Hypervisor-owned, read-write in one guest only, distrusted; both sides use
//! LOCK operations only.
//!
//! ```
//! use pv_abi::event::{self, EventLine};
//!
//! // Two events are pending and one of them is masked: only the other one wakes the vCPU.
//! let line = EventLine {
//!     pending: event::bit(3) | event::bit(event::TIMER),
//!     mask: event::bit(3),
//!     ..EventLine::default()
//! };
//! assert_eq!(line.pending & !line.mask, event::bit(event::TIMER));
//! ```

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Events of one vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EventLine {
    /// Bit n: event n happened. Senders LOCK OR; the owner takes bits by LOCK XCHG or AND.
    pub pending: u64,
    /// Bit n set: event n neither interrupts nor wakes. The owner writes.
    pub mask: u64,
    /// Not zero: flush the TLB at the next dispatch. Senders LOCK OR; the hypervisor takes it by XCHG at entry.
    pub flush_request: u64,
    /// Zero.
    pub reserved: [u64; 5],
}

/// Word indices in an [`EventLine`].
pub mod word {
    /// [`super::EventLine::pending`].
    pub const PENDING: usize = 0;
    /// [`super::EventLine::mask`].
    pub const MASK: usize = 1;
    /// [`super::EventLine::flush_request`].
    pub const FLUSH_REQUEST: usize = 2;
}

/// The event that a past next_wake sets.
pub const TIMER: u8 = 63;
/// The event that console input sets.
pub const CONSOLE: u8 = 62;
/// The event that a KICK with no bit of its own stands for.
pub const KICK: u8 = 61;

/// The mask of one event; events from 64 on have none.
pub const fn bit(event: u8) -> u64 {
    if event < 64 { 1 << event } else { 0 }
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<EventLine>() == 64);
    assert!(offset_of!(EventLine, pending) == 8 * word::PENDING);
    assert!(offset_of!(EventLine, mask) == 8 * word::MASK);
    assert!(offset_of!(EventLine, flush_request) == 8 * word::FLUSH_REQUEST);
};
