//! The error for a bundle whose guests cannot be made.

use crate::base::id::VcpuIndex;
use crate::device::virtio::block::DiskError;
use core::fmt;

/// Why the guests cannot be made.
pub enum MakeError<'a> {
    /// The machine's memory does not suffice for this guest.
    Memory {
        /// The guest's name.
        guest: &'a str,
        /// Its `memory_mib`.
        wanted_mib: u32,
        /// The machine's free memory.
        free_mib: u64,
    },
    /// A vCPU is pinned to a processor that the machine does not have.
    NoSuchCpu {
        /// The guest's name.
        guest: &'a str,
        /// The index of the vCPU in its guest.
        vcpu: VcpuIndex,
    },
    /// The machine has no room for this guest or its vCPUs.
    TooManyVcpus(&'a str),
    /// The guest's disk image is not usable.
    Disk(&'a str, DiskError),
}

impl fmt::Display for MakeError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { guest, wanted_mib, free_mib } => {
                write!(f, "guest {guest}: memory_mib = {wanted_mib}, but the machine has {free_mib} MiB left")
            }
            Self::NoSuchCpu { guest, vcpu } => {
                write!(f, "guest {guest}: pin: vCPU {} is pinned to a processor that is not there", vcpu.0)
            }
            Self::Disk(guest, error) => write!(f, "guest {guest}: disk: {error:?}"),
            Self::TooManyVcpus(guest) => write!(f, "guest {guest}: too many guests or vCPUs for one machine"),
        }
    }
}
