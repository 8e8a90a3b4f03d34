//! What a guest says it needs. The guest writes; the hypervisor reads a word once, clamps the copy, and uses that.
//!
//! A row only *reorders within, hands back or postpones* what the guest is due. A lie harms the liar.
//!
//! ```
//! use pv_abi::demand::{DemandFlags, Request, State};
//!
//! // Word 0 of a row: three tasks are runnable. The cookie is what REGISTER answered.
//! let state = State { runnable: 3, flags: DemandFlags::IRQ_WORK, latency_class: 1, cookie: 0xC0DE };
//! assert_eq!(State::unpack(state.pack()), state);
//!
//! // Word 2: 2 ms of CPU time every 10 ms.
//! let request = Request { budget_ns: 2_000_000, period_us: 10_000 };
//! assert_eq!(Request::unpack(request.pack()), request);
//! ```

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Demand of one vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuDemand {
    /// [`State`]: runnable tasks, flags, latency class, cookie.
    pub state: u64,
    /// When the current request should be done, in guest TSC ticks; 0 = none. Ignored when past or more than 1 s ahead.
    pub deadline_tsc: u64,
    /// [`Request`]: budget in ns, period in µs.
    pub request: u64,
    /// The earliest timer, in guest TSC ticks; 0 = none. A past value fires once, at once.
    pub next_wake_tsc: u64,
    /// [`WaitFor`]: which vCPU this one waits for.
    pub wait_for: u64,
    /// Bits 31:0 I/O requests in flight; bits 63:32 mask of doorbells that matter.
    pub io: u64,
    /// Bits 31:0 µs that being off CPU is harmless; bits 63:32 expected length of the next run in µs.
    pub slack: u64,
    /// Byte 0: critical depth, changed by one INC or DEC instruction; tested for zero only. The rest is zero.
    pub critical: u64,
}

/// Word indices in a [`VcpuDemand`] row.
pub mod word {
    /// [`super::VcpuDemand::state`].
    pub const STATE: usize = 0;
    /// [`super::VcpuDemand::deadline_tsc`].
    pub const DEADLINE: usize = 1;
    /// [`super::VcpuDemand::request`].
    pub const REQUEST: usize = 2;
    /// [`super::VcpuDemand::next_wake_tsc`].
    pub const NEXT_WAKE: usize = 3;
    /// [`super::VcpuDemand::wait_for`].
    pub const WAIT_FOR: usize = 4;
    /// [`super::VcpuDemand::io`].
    pub const IO: usize = 5;
    /// [`super::VcpuDemand::slack`].
    pub const SLACK: usize = 6;
    /// [`super::VcpuDemand::critical`].
    pub const CRITICAL: usize = 7;
}

bitflags! {
    /// What a vCPU is doing. Unknown bits are ignored.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct DemandFlags: u16 {
        /// Nothing to run.
        const IDLE = 1 << 0;
        /// Polls its event line: it needs no kick while on CPU.
        const POLLING = 1 << 1;
        /// Spins for a lock; see `wait_for`.
        const LOCK_WAIT = 1 << 2;
        /// Work for interrupts is queued.
        const IRQ_WORK = 1 << 3;
    }
}

/// Word 0 of a row, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// Tasks that could run now, this one included; saturates at 65,535.
    pub runnable: u16,
    /// What it is doing.
    pub flags: DemandFlags,
    /// 0 = ordinary; higher asks for an earlier turn by a shorter request. Clamped to 0 … 3.
    pub latency_class: u8,
    /// The cookie that REGISTER gave. A row with another one is ignored.
    pub cookie: u16,
}

impl State {
    /// Bit of [`DemandFlags::POLLING`] in word 0, for one LOCK OR or AND.
    pub const POLLING_BIT: u64 = (DemandFlags::POLLING.bits() as u64) << 16;

    /// The word.
    pub const fn pack(self) -> u64 {
        self.runnable as u64
            | (self.flags.bits() as u64) << 16
            | (self.latency_class as u64) << 32
            | (self.cookie as u64) << 48
    }

    /// Takes a word apart; total, since every bit pattern means something.
    #[expect(clippy::cast_possible_truncation, reason = "each field is the low bits of a shifted word")]
    pub const fn unpack(word: u64) -> Self {
        Self {
            runnable: word as u16,
            flags: DemandFlags::from_bits_truncate((word >> 16) as u16),
            latency_class: (word >> 32) as u8,
            cookie: (word >> 48) as u16,
        }
    }
}

/// Word 2 of a row, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// CPU time wanted a period, in ns; the request's length clamps to 100 µs … 10 ms. 0 = no wish.
    pub budget_ns: u32,
    /// How often, in µs. 0 = not periodic.
    pub period_us: u32,
}

impl Request {
    /// The word.
    pub const fn pack(self) -> u64 {
        self.budget_ns as u64 | (self.period_us as u64) << 32
    }

    /// Takes a word apart.
    #[expect(clippy::cast_possible_truncation, reason = "each field is the low bits of a shifted word")]
    pub const fn unpack(word: u64) -> Self {
        Self { budget_ns: word as u32, period_us: (word >> 32) as u32 }
    }
}

/// Word 4 of a row, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitFor {
    /// Index of the vCPU waited for plus one; 0 = nobody. A vCPU that is not there is ignored.
    pub vcpu_plus_one: u8,
    /// Why: [`Reason`].
    pub reason: Reason,
    /// Low half of the holder's dispatch_seq as the waiter saw it.
    pub seq: u32,
}

/// Why a vCPU waits for another. Unknown reasons count as [`Reason::OTHER`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Reason(pub u8);

impl Reason {
    /// Not said.
    pub const OTHER: Self = Self(0);
    /// It holds a lock.
    pub const LOCK: Self = Self(1);
    /// It must acknowledge an IPI or a TLB flush.
    pub const ACKNOWLEDGE: Self = Self(2);
    /// It must consume from or produce into a ring.
    pub const RING: Self = Self(3);
}

impl WaitFor {
    /// The word.
    pub const fn pack(self) -> u64 {
        self.vcpu_plus_one as u64 | (self.reason.0 as u64) << 8 | (self.seq as u64) << 32
    }

    /// Takes a word apart.
    #[expect(clippy::cast_possible_truncation, reason = "each field is the low bits of a shifted word")]
    pub const fn unpack(word: u64) -> Self {
        Self { vcpu_plus_one: word as u8, reason: Reason((word >> 8) as u8), seq: (word >> 32) as u32 }
    }
}

/// Demand of the whole guest. Reserved for MEMORY and gangs: read by nobody yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GuestDemand {
    /// Pages wanted.
    pub memory_wanted_pages: u64,
    /// Pages without which it cannot go on.
    pub memory_minimum_pages: u64,
    /// Pages it could give back now.
    pub memory_reclaimable_pages: u64,
    /// 0 … 1,000: thousandths of time lost to reclaim.
    pub memory_pressure: u64,
    /// vCPUs that would have work now.
    pub useful_vcpus: u64,
    /// vCPUs that should run together.
    pub gang_mask: u64,
    /// Zero.
    pub reserved: [u64; 2],
}

/// Demand of a sub-account (a container in the guest). Reserved: read by nobody yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AccountDemand {
    /// 0 = the row is unused.
    pub id: u64,
    /// Share inside the guest.
    pub weight: u64,
    /// Tasks that could run now.
    pub runnable: u64,
    /// As in [`VcpuDemand::deadline_tsc`].
    pub deadline_tsc: u64,
    /// As in [`VcpuDemand::request`].
    pub request: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<VcpuDemand>() == 64);
    assert!(offset_of!(VcpuDemand, state) == 8 * word::STATE);
    assert!(offset_of!(VcpuDemand, deadline_tsc) == 8 * word::DEADLINE);
    assert!(offset_of!(VcpuDemand, request) == 8 * word::REQUEST);
    assert!(offset_of!(VcpuDemand, next_wake_tsc) == 8 * word::NEXT_WAKE);
    assert!(offset_of!(VcpuDemand, wait_for) == 8 * word::WAIT_FOR);
    assert!(offset_of!(VcpuDemand, io) == 8 * word::IO);
    assert!(offset_of!(VcpuDemand, slack) == 8 * word::SLACK);
    assert!(offset_of!(VcpuDemand, critical) == 8 * word::CRITICAL);
    assert!(size_of::<GuestDemand>() == 64);
    assert!(size_of::<AccountDemand>() == 64);
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_survive_packing(runnable: u16, flags in 0u16..16, latency_class: u8, cookie: u16, a: u32, b: u32, c: u8, d: u8) {
            let state = State { runnable, flags: DemandFlags::from_bits_truncate(flags), latency_class, cookie };
            prop_assert_eq!(State::unpack(state.pack()), state);
            let request = Request { budget_ns: a, period_us: b };
            prop_assert_eq!(Request::unpack(request.pack()), request);
            let wait = WaitFor { vcpu_plus_one: c, reason: Reason(d), seq: a };
            prop_assert_eq!(WaitFor::unpack(wait.pack()), wait);
        }
    }

    #[test]
    fn the_polling_bit_is_where_the_flags_are() {
        assert!(State::unpack(State::POLLING_BIT).flags.contains(DemandFlags::POLLING));
    }
}
