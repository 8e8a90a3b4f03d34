//! What the hypervisor tells a guest about each of its vCPUs. The hypervisor writes; the guest reads.
//!
//! ```
//! use pv_abi::status::{HotLine, StatusFlags};
//!
//! // A guest reads the flags of its own line: somebody waits for this CPU.
//! let line = HotLine { flags: StatusFlags::YIELD_PLEASE.bits(), ..HotLine::default() };
//! assert!(StatusFlags::from_bits_truncate(line.flags).contains(StatusFlags::YIELD_PLEASE));
//!
//! // All zeroes are a vCPU off CPU.
//! assert_eq!(HotLine::default().dispatch_seq, 0);
//! ```

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The line that guests read often. All-zero: off CPU, nothing armed, nothing granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct HotLine {
    /// Counts dispatches and switch-outs: odd = on CPU.
    pub dispatch_seq: u64,
    /// [`StatusFlags`].
    pub flags: u64,
    /// When the slice ends, in guest TSC ticks; `u64::MAX` = nobody waits; 0 = off CPU.
    pub slice_end_tsc: u64,
    /// The next_wake that will be honoured, in guest TSC ticks; 0 = none.
    pub armed_until_tsc: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

/// Word indices in a [`HotLine`].
pub mod word {
    /// [`super::HotLine::dispatch_seq`].
    pub const DISPATCH_SEQ: usize = 0;
    /// [`super::HotLine::flags`].
    pub const FLAGS: usize = 1;
    /// [`super::HotLine::slice_end_tsc`].
    pub const SLICE_END: usize = 2;
    /// [`super::HotLine::armed_until_tsc`].
    pub const ARMED_UNTIL: usize = 3;
}

bitflags! {
    /// State of a vCPU as the scheduler sees it. A guest ignores bits it does not know.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct StatusFlags: u64 {
        /// Somebody waits for this vCPU's CPU.
        const YIELD_PLEASE = 1 << 0;
        /// The slice was over inside a critical section and got an extension: YIELD at depth 0.
        const CRIT_GRANTED = 1 << 1;
        /// Held back by its own cap or reservation.
        const THROTTLED = 1 << 2;
        /// Its demand row is not used: not registered, or the wrong cookie.
        const HINTS_IGNORED = 1 << 3;
    }
}

/// What a vCPU got and lost since it was made. Written at switch-out, not more often than every ms; times in ns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Statistics {
    /// On CPU.
    pub run_ns: u64,
    /// Runnable and off CPU, whatever the cause.
    pub steal_ns: u64,
    /// … because others ran.
    pub steal_peers_ns: u64,
    /// … because of its own cap.
    pub steal_cap_ns: u64,
    /// … because the hypervisor worked for somebody else.
    pub steal_hypervisor_ns: u64,
    /// … because the host below took the CPU; 0 unless the machine tells.
    pub steal_below_ns: u64,
    /// Service owed to this guest here, two's complement; positive = it is owed.
    pub lag_ns: u64,
    /// Times it lost the CPU inside a critical section.
    pub preempted_in_critical: u64,
    /// Exits: calls, emulated (CPUID, MSR, port), APIC, halt and PAUSE, interrupts, windows, memory, other.
    pub exits: [u64; 8],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<HotLine>() == 64);
    assert!(offset_of!(HotLine, dispatch_seq) == 8 * word::DISPATCH_SEQ);
    assert!(offset_of!(HotLine, flags) == 8 * word::FLAGS);
    assert!(offset_of!(HotLine, slice_end_tsc) == 8 * word::SLICE_END);
    assert!(offset_of!(HotLine, armed_until_tsc) == 8 * word::ARMED_UNTIL);
    assert!(size_of::<Statistics>() == 128);
    assert!(offset_of!(Statistics, lag_ns) == 48);
    assert!(offset_of!(Statistics, exits) == 64);
};
