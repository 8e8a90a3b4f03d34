//! What happens after an exit: a value that cannot be dropped.

use crate::base::error::KillReason;
use crate::base::id::VcpuIndex;
use crate::dispatch::vt::Control;
use crate::policy::trace::Ending;

/// What happens next to the vCPU that exited.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// It goes on.
    Resume,
    /// It goes on if the queue still picks it.
    Reschedule,
    /// It gives the CPU to whoever waits.
    Yield,
    /// It gives the CPU to a vCPU of its guest, as last seen on CPU at `seq`.
    YieldTo {
        /// To whom.
        target: VcpuIndex,
    },
    /// It sleeps until something is pending.
    Block,
    /// Another vCPU of its guest starts.
    Start(VcpuIndex, StartRequest),
    /// A vCPU of its guest stops, maybe itself.
    Stop(VcpuIndex),
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

/// How another vCPU starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartRequest {
    /// As a copy of the starter.
    Copy {
        /// The starter's control state.
        control: Control,
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
