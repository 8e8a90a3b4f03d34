//! What happens after an exit: a value that cannot be dropped.

use crate::base::error::KillReason;
use crate::base::id::VcpuIndex;
use crate::policy::trace::Ending;

/// What happens next to the vCPU that exited.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It goes on.
    Resume,
    /// It goes on if the queue still picks it.
    Reschedule,
    /// It gives the CPU to whoever waits.
    Yield,
    /// It does so, and then its instruction again: there was no room for what that does.
    Again,
    /// It gives the CPU to a vCPU of its guest, as last seen on CPU at `seq`.
    YieldTo {
        /// To whom.
        target: VcpuIndex,
    },
    /// It sleeps until something is pending.
    Block,
    /// Other vCPUs of its guest start.
    Start {
        /// Which.
        targets: VcpuSet,
        /// Where.
        at: StartAt,
    },
    /// vCPUs of its guest stop, maybe itself.
    Stop(VcpuSet),
    /// It was told to stop.
    Park,
    /// Its counters, and everybody's, are noted.
    Mark {
        /// The guest's name for the mark.
        id: u64,
        /// A number of the guest's own.
        value: u64,
    },
    /// Its guest ends.
    End(Ending),
    /// Its guest cannot go on.
    Kill(KillReason),
}

/// vCPUs of one guest: bit `n` is vCPU `n`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VcpuSet(u64);

impl VcpuSet {
    /// One of them.
    pub const fn one(index: VcpuIndex) -> Self {
        Self(1 << (index.0 & 63))
    }

    /// Both sets together.
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

/// Where another vCPU starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartAt {
    /// In the starter's own control state.
    Copy {
        /// RIP.
        entry: u64,
        /// RSP.
        stack: u64,
        /// RDI.
        argument: u64,
    },
    /// In real mode at this page: a start-up IPI.
    Real(u8),
}
