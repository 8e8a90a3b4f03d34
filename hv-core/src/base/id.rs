//! Names of guests and processors.

use serde::{Deserialize, Serialize};

/// Most vCPUs a guest may have (DESIGN §4).
pub const MAX_VCPUS_PER_GUEST: usize = 64;
/// Most guests of one machine.
pub const MAX_GUESTS: usize = 256;

/// A guest, counted from 0 in the order of the bundle; a restarted guest keeps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct GuestId(pub u16);

/// A vCPU of a guest, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct VcpuIndex(pub u8);

/// One vCPU among all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct VcpuId {
    /// Whose it is.
    pub guest: GuestId,
    /// Which of the guest's.
    pub index: VcpuIndex,
}

/// A physical processor, counted from 0 in the order they came up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct CpuId(pub u16);
