//! Calls: RAX = [`PREFIX`] | number, arguments in RDI RSI RDX R10 R8 R9; back come RAX = [`Code`] and RDX = a value.
//! Nothing else changes. CPL 0 only: elsewhere the instruction raises #UD. `docs/src/abi.md` gives each call in full.
//!
//! ```
//! use pv_abi::call::{Call, Code};
//!
//! // What a kernel loads into RAX for YIELD, and how it reads the answer.
//! assert_eq!(Call::YIELD.0, 0x434D_0005);
//! let name = |rax| Code::ALL.iter().find(|(code, _)| code.0 == rax).map(|(_, name)| *name);
//! assert_eq!(name(9), Some("AGAIN"));
//! assert_eq!(name(999), None); // a later version's code: a refusal like any other
//! ```

/// Upper half of RAX in a call: "CM".
pub const PREFIX: u64 = 0x434D_0000;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $number:literal),* $(,)?) => {
        /// A call's number, as it stands in RAX.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(transparent)]
        pub struct Call(pub u64);

        impl Call {
            $($(#[$doc])* pub const $name: Self = Self(PREFIX | $number);)*

            /// Every call with its name, in the order of the numbers.
            pub const ALL: &[(Self, &'static str)] = &[$((Self::$name, stringify!($name))),*];
        }
    };
}

calls! {
    /// RDI item ([`Info`]) → its value.
    INFO = 0,
    /// RDI minor version, RSI event vector (32 … 255, or 0 for none) → the cookie. Registers this vCPU's rows.
    REGISTER = 1,
    /// RDI table, RSI gpa in the window, page-aligned. Places a table; the table's pages follow one another.
    MAP = 2,
    /// Cancels timer, events and grants of this vCPU; its rows are ignored from now on.
    UNREGISTER = 3,
    /// RDI mask of events that count. Sleeps until one is pending, or an interrupt, an NMI or a past next_wake.
    BLOCK = 4,
    /// Gives the CPU to whoever waits.
    YIELD = 5,
    /// RDI vCPU, RSI its dispatch_seq as seen. Runs it on the caller's account.
    YIELD_TO = 6,
    /// RDI vCPU. Makes it look at its events.
    KICK = 7,
    /// Reads next_wake now → armed_until.
    ARM = 8,
    /// RDI operation ([`EventOp`]), RSI, RDX its arguments.
    EVENT = 9,
    /// RDI vCPU, RSI vector (32 … 255), or [`IPI_NMI`].
    IPI = 10,
    /// RDI operation ([`MemoryOp`]), RSI gpa, a multiple of 2 MiB, RDX blocks of 2 MiB (GIVE).
    MEMORY = 11,
    /// Reserved: answers [`Code::NOT_SUPPORTED`].
    SHARE = 12,
    /// RDI item ([`Stat`]), RSI vCPU → its value.
    STATS = 13,
    /// RDI operation ([`ConsoleOp`]), RSI gpa, RDX bytes → bytes done.
    CONSOLE = 14,
    /// RDI vCPU, RSI entry (linear), RDX stack (linear), R10 argument (arrives in RDI). Starts it as a copy of the caller.
    VCPU_START = 15,
    /// RDI vCPU. Stops it; a stopped vCPU can be started again.
    VCPU_STOP = 16,
    /// RDI vCPU → [`VcpuState`].
    VCPU_STATE = 17,
    /// RDI kind ([`Shutdown`]). Ends the whole guest.
    SHUTDOWN = 18,
    /// RDI id, RSI value. Notes both in the telemetry with everybody's counters.
    MARK = 19,
}

macro_rules! open_codes {
    ($(#[$type_doc:meta])* $type:ident { $($(#[$doc:meta])* $name:ident = $value:expr),* $(,)? }) => {
        $(#[$type_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(transparent)]
        pub struct $type(pub u64);

        impl $type {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// Every value of this version with its name.
            pub const ALL: &[(Self, &'static str)] = &[$((Self::$name, stringify!($name))),*];
        }
    };
}

open_codes! {
    /// What a call answers in RAX.
    Code {
        /// Done.
        OK = 0,
        /// No such call in this version.
        NO_SUCH_CALL = 1,
        /// An argument is out of its range, or an operation or item is unknown.
        BAD_ARGUMENT = 2,
        /// No such vCPU in this guest.
        NO_SUCH_VCPU = 3,
        /// No such table, channel or console for this guest.
        NOT_THERE = 4,
        /// An address is not in memory, not in the window, or not aligned.
        BAD_ADDRESS = 5,
        /// The vCPU must be registered first.
        NOT_REGISTERED = 6,
        /// The target is in a state in which this cannot be done.
        BAD_STATE = 7,
        /// What the caller saw is no longer so; look again.
        STALE = 8,
        /// What the call needs is not there yet: call again later.
        AGAIN = 9,
        /// Known, and not offered to this guest or by this version.
        NOT_SUPPORTED = 10,
    }
}

open_codes! {
    /// Items of INFO.
    Info {
        /// ABI version, packed. The cheapest call there is.
        VERSION = 0,
        /// [`crate::cpuid::Features`].
        FEATURES = 1,
        /// gpa where the window for shared pages begins.
        WINDOW_BASE = 2,
        /// Pages in the window.
        WINDOW_PAGES = 3,
        /// TSC frequency in kHz.
        TSC_KHZ = 4,
        /// vCPUs of this guest.
        VCPUS = 5,
        /// Index of the calling vCPU.
        VCPU = 6,
        /// Unix time in ns when the guest's TSC was zero.
        WALL_NS = 7,
        /// Channels of this guest.
        CHANNELS = 8,
        /// How often this guest was started before.
        GENERATION = 9,
        /// Blocks of 2 MiB that this guest may have at most, from gpa 0 on.
        MEMORY_BLOCKS = 10,
    }
}

open_codes! {
    /// Operations of MEMORY.
    MemoryOp {
        /// Gives RDX blocks back, 1 … [`MEMORY_MAX_BLOCKS`] → vCPUs that have yet to let go of them.
        GIVE = 0,
        /// Takes one block, cleared → bytes that are still to be cleared: until that is 0, call again.
        TAKE = 1,
        /// → vCPUs that have yet to let go of the last batch that was given back; when 0, it is gone.
        QUERY = 2,
    }
}

open_codes! {
    /// Operations of EVENT.
    EventOp {
        /// RSI channel. Sets the event that the peer bound, and wakes it.
        RING = 0,
        /// RSI channel, RDX vCPU in bits 7:0 and event in bits 15:8: what a peer's RING sets here.
        BIND = 1,
        /// RSI channel → pages of the channel in bits 15:0, bit 16: the peer has bound its end.
        QUERY = 2,
    }
}

open_codes! {
    /// Operations of CONSOLE.
    ConsoleOp {
        /// Writes up to 256 bytes from memory.
        WRITE = 0,
        /// Reads up to 256 bytes of input into memory.
        READ = 1,
        /// Empties the console ring to people.
        FLUSH = 2,
    }
}

open_codes! {
    /// Items of STATS: the fields of [`crate::status::Statistics`], now and not as of the last switch.
    Stat {
        /// [`crate::status::Statistics::run_ns`].
        RUN_NS = 0,
        /// [`crate::status::Statistics::steal_ns`].
        STEAL_NS = 1,
        /// Exits of this vCPU, all classes.
        EXITS = 2,
        /// [`crate::status::Statistics::preempted_in_critical`].
        PREEMPTED_IN_CRITICAL = 3,
        /// Times it was switched to.
        SWITCHES = 4,
    }
}

open_codes! {
    /// What VCPU_STATE answers.
    VcpuState {
        /// Not started, or stopped.
        STOPPED = 0,
        /// Running or waiting for a CPU.
        RUNNABLE = 1,
        /// In BLOCK or HLT.
        BLOCKED = 2,
    }
}

open_codes! {
    /// Kinds of SHUTDOWN.
    Shutdown {
        /// Powered off.
        OFF = 0,
        /// Start again from the beginning.
        REBOOT = 1,
        /// The guest says that it crashed.
        CRASH = 2,
    }
}

/// In IPI's RSI: an NMI instead of a vector.
pub const IPI_NMI: u64 = 1 << 8;
/// Bytes in a block of memory.
pub const MEMORY_BLOCK_BYTES: u64 = 2 << 20;
/// Most blocks that one MEMORY(GIVE) gives back.
pub const MEMORY_MAX_BLOCKS: u64 = 64;
/// Most bytes that one CONSOLE call moves.
pub const CONSOLE_MAX_BYTES: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_numbered_from_zero_without_a_gap() {
        for (expected, (call, name)) in (PREFIX..).zip(Call::ALL) {
            assert_eq!(call.0, expected, "{name}");
        }
        assert_eq!(Call::ALL.len(), 20);
    }
}
