//! Identifiers of guests, vCPUs and processors, and the limits of their numbers.

use serde::{Deserialize, Serialize};

/// Most vCPUs a guest may have (DESIGN §4).
pub const MAX_VCPUS_PER_GUEST: usize = 64;
/// Most guests of one machine.
pub const MAX_GUESTS: usize = 256;
/// Longest guest name, in bytes; the hypervisor prints it before every console line of the guest.
pub const MAX_NAME_BYTES: usize = 16;
/// Most vCPUs of one machine.
pub const MAX_VCPUS: usize = 1024;
/// Most processors that the hypervisor uses.
pub const MAX_CPUS: usize = 64;
/// Most ends of channels that one guest may have: a full guest has ports for this number, a cooperative one names them by a byte.
pub const MAX_CHANNELS: u16 = 64;

/// A guest, counted from 0 in the order of the bundle; a restarted guest keeps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct GuestId(pub u16);

/// A vCPU of a guest, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct VcpuIndex(pub u8);

/// A vCPU of any guest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct VcpuId {
    /// The guest that owns the vCPU.
    pub guest: GuestId,
    /// The vCPU's index within its guest.
    pub index: VcpuIndex,
}

/// A physical processor, counted from 0: the bootstrap processor first, then in the order of the firmware's table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct CpuId(pub u16);

/// A set of processors: bit `n` is processor `n`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuSet(pub u64);

impl CpuSet {
    /// All possible processors.
    pub const ALL: Self = Self(u64::MAX);

    /// Returns the set of one processor.
    pub const fn one(cpu: CpuId) -> Self {
        Self(1 << (cpu.0 & 63))
    }

    /// Whether the processor is in the set.
    pub const fn has(self, cpu: CpuId) -> bool {
        self.0 & Self::one(cpu).0 != 0
    }

    /// Returns the processors that are in both sets.
    #[must_use]
    pub const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the lowest processor at or above `from`, or else the lowest of all; `None` for the empty set.
    pub fn next_from(self, from: CpuId) -> Option<CpuId> {
        let turned = self.0.rotate_right(u32::from(from.0 & 63));
        let steps = u16::try_from(turned.trailing_zeros()).ok().filter(|_| turned != 0)?;
        Some(CpuId((from.0 + steps) & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_processor_of_a_set_is_found_going_round() {
        let set = CpuSet(0b1001);
        let from = |n| set.next_from(CpuId(n));
        assert_eq!([from(0), from(1), from(3), from(4)], [0, 3, 3, 0].map(|n| Some(CpuId(n))));
        assert_eq!(CpuSet(0).next_from(CpuId(5)), None);
        assert_eq!(CpuSet::one(CpuId(63)).next_from(CpuId(63)), Some(CpuId(63)));
    }
}
