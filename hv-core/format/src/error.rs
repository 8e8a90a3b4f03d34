//! Why a guest is killed. A guest's mistake gets a status; a guest that cannot go on ends here; our bug is a panic.

use crate::addr::GuestPhys;
use serde::{Deserialize, Serialize};

/// Why a guest cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum KillReason {
    /// It touched memory that is not there, or wrote what it may only read.
    BadAccess {
        /// Where.
        at: GuestPhys,
        /// What it tried.
        write: bool,
    },
    /// It touched a device's memory with an instruction that is not done here, or cannot be fetched.
    NotEmulated {
        /// Where.
        at: GuestPhys,
        /// The instruction.
        rip: u64,
    },
    /// A fault while handling a fault while handling a fault.
    TripleFault,
    /// All of its vCPUs are stopped: nobody is left to start one.
    AllStopped,
    /// Its control state is one that no processor runs.
    BadState,
    /// INS or OUTS to an emulated port, which this version does not do.
    StringPort(u16),
    /// A vendor exit that nothing here asked for.
    UnknownExit(u64),
    /// A task switch, which this version does not do.
    TaskSwitch,
    /// It wrote a control register by an instruction that cannot be fetched.
    UnreadableCode {
        /// The instruction.
        rip: u64,
    },
}
