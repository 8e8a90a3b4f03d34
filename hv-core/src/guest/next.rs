//! The action that follows an exit: a value that the caller must not drop.

use crate::base::error::KillReason;
use crate::base::id::VcpuIndex;
use crate::policy::trace::Ending;

/// The action that follows an exit of a vCPU.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// The vCPU goes on.
    Resume,
    /// The vCPU goes on if the run queue still picks it.
    Reschedule,
    /// The vCPU yields the CPU to the vCPUs that wait for it.
    Yield,
    /// The vCPU yields, and later retries its instruction, because the hypervisor had no room for the instruction's effect.
    Again,
    /// The vCPU gives the CPU to another vCPU of its guest (directed yield).
    YieldTo {
        /// The index of the vCPU that gets the CPU.
        target: VcpuIndex,
    },
    /// The vCPU sleeps until an event for it is pending.
    Block,
    /// The vCPU starts other vCPUs of its guest.
    Start {
        /// The vCPUs to start.
        targets: VcpuSet,
        /// The state in which they start.
        at: StartAt,
    },
    /// The vCPU stops vCPUs of its guest, which may include itself.
    Stop(VcpuSet),
    /// The vCPU obeys an order to stop.
    Park,
    /// A mark: the counters of all guests and processors are recorded.
    Mark {
        /// The guest's name for the mark.
        id: u64,
        /// A number that the guest chose.
        value: u64,
    },
    /// The vCPU's guest ends.
    End(Ending),
    /// The vCPU's guest cannot go on, and is killed.
    Kill(KillReason),
}

/// vCPUs of one guest: bit `n` is vCPU `n`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VcpuSet(u64);

impl VcpuSet {
    /// The set of this one vCPU.
    pub const fn one(index: VcpuIndex) -> Self {
        Self(1 << (index.0 & 63))
    }

    /// The union of both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Iterator for VcpuSet {
    type Item = VcpuIndex;
    fn next(&mut self) -> Option<VcpuIndex> {
        let index = u8::try_from(self.0.trailing_zeros()).ok().filter(|_| self.0 != 0)?;
        self.0 &= self.0 - 1;
        Some(VcpuIndex(index))
    }
}

/// The state in which a vCPU that another one starts begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartAt {
    /// With a copy of the starter's control state.
    Copy {
        /// RIP.
        entry: u64,
        /// RSP.
        stack: u64,
        /// RDI.
        argument: u64,
    },
    /// In real mode at this page, as a start-up IPI asks.
    Real(u8),
}
