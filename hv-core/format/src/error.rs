//! The reasons for killing a guest. A guest's mistake is answered by a status; a guest that cannot continue is killed; a bug of the
//! hypervisor is a panic.

use crate::addr::GuestPhys;
use serde::{Deserialize, Serialize};

/// The reason why a guest cannot continue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum KillReason {
    /// The guest accessed memory that it does not have, or wrote to read-only memory.
    BadAccess {
        /// Address of the access.
        at: GuestPhys,
        /// Whether the access was a write.
        write: bool,
    },
    /// The guest accessed a device's memory with an instruction that the hypervisor does not emulate, or cannot fetch.
    NotEmulated {
        /// Address of the access.
        at: GuestPhys,
        /// Address of the instruction.
        rip: u64,
    },
    /// A fault occurred during the delivery of a double fault.
    TripleFault,
    /// All vCPUs of the guest are stopped, so none is left to start another.
    AllStopped,
    /// The guest's control state is one that the processor refuses to enter.
    BadState,
    /// INS or OUTS at an emulated port, which this version does not emulate; carries the port.
    StringPort(u16),
    /// An exit that the hypervisor did not request; carries the vendor's exit code.
    UnknownExit(u64),
    /// A task switch, which this version does not emulate.
    TaskSwitch,
    /// The guest wrote a control register by an instruction that the hypervisor cannot fetch.
    UnreadableCode {
        /// Address of the instruction.
        rip: u64,
    },
}
