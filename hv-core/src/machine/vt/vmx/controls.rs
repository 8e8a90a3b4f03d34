//! VM-execution, entry and exit controls: what we set, and what the processor must allow. Intel SDM vol 3C §24.6 … §24.8, appendix A.

use bitflags::bitflags;

bitflags! {
    /// Pin-based controls (§24.6.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Pin: u32 {
        /// The machine's interrupts are ours.
        const EXTERNAL_INTERRUPTS = 1 << 0;
        const NMI = 1 << 3;
        /// NMIs that we inject hold one another back.
        const VIRTUAL_NMI = 1 << 5;
        const PREEMPTION_TIMER = 1 << 6;
        const _ = !0;
    }

    /// Primary processor-based controls (§24.6.2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Primary: u32 {
        const INTERRUPT_WINDOW = 1 << 2;
        const HLT = 1 << 7;
        const MWAIT = 1 << 10;
        const RDPMC = 1 << 11;
        /// CR8 is the guest's, without exits but below the threshold.
        const TPR_SHADOW = 1 << 21;
        const NMI_WINDOW = 1 << 22;
        const MOV_DR = 1 << 23;
        const IO_MAPS = 1 << 25;
        const MSR_MAP = 1 << 28;
        const MONITOR = 1 << 29;
        const SECONDARY = 1 << 31;
        const _ = !0;
    }

    /// Secondary processor-based controls (§24.6.2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Secondary: u32 {
        const EPT = 1 << 1;
        const VPID = 1 << 5;
        const WBINVD = 1 << 6;
        const UNRESTRICTED = 1 << 7;
        const PAUSE_LOOP = 1 << 10;
        const _ = !0;
    }

    /// Exit controls (§24.7.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Exit: u32 {
        const SAVE_DEBUG = 1 << 2;
        const HOST_64_BIT = 1 << 9;
        const SAVE_PAT = 1 << 18;
        const LOAD_PAT = 1 << 19;
        const SAVE_EFER = 1 << 20;
        const LOAD_EFER = 1 << 21;
        const _ = !0;
    }

    /// Entry controls (§24.8.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Entry: u32 {
        const LOAD_DEBUG = 1 << 2;
        /// Kept by the processor with EFER.LMA at each exit (§27.2: unrestricted guest).
        const LONG_MODE = 1 << 9;
        const LOAD_PAT = 1 << 14;
        const LOAD_EFER = 1 << 15;
        const _ = !0;
    }
}

/// What a vCPU runs under.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Controls {
    pub pin: Pin,
    pub primary: Primary,
    pub secondary: Secondary,
    pub exit: Exit,
    pub entry: Entry,
}

/// What every vCPU begins with, but for bits that a processor must have set. §25.1.3 says what exits besides.
pub const WANTED: Controls = Controls {
    pin: Pin::EXTERNAL_INTERRUPTS.union(Pin::NMI).union(Pin::VIRTUAL_NMI),
    primary: Primary::HLT
        .union(Primary::MWAIT)
        .union(Primary::RDPMC)
        .union(Primary::TPR_SHADOW)
        .union(Primary::MOV_DR)
        .union(Primary::IO_MAPS)
        .union(Primary::MSR_MAP)
        .union(Primary::MONITOR)
        .union(Primary::SECONDARY),
    secondary: Secondary::EPT.union(Secondary::VPID).union(Secondary::WBINVD).union(Secondary::UNRESTRICTED),
    exit: Exit::SAVE_DEBUG
        .union(Exit::HOST_64_BIT)
        .union(Exit::SAVE_PAT)
        .union(Exit::LOAD_PAT)
        .union(Exit::SAVE_EFER)
        .union(Exit::LOAD_EFER),
    entry: Entry::LOAD_DEBUG.union(Entry::LOAD_PAT).union(Entry::LOAD_EFER),
};

/// Bits that are used later, and so must be allowed too.
pub const LATER: Primary = Primary::INTERRUPT_WINDOW.union(Primary::NMI_WINDOW);
pub const LATER_AT_ENTRY: Entry = Entry::LONG_MODE;

/// The name of the lowest bit of `missing`, as the manual has it.
pub fn name<F: bitflags::Flags>(missing: F) -> &'static str {
    missing.iter_names().next().map_or("a reserved bit", |(name, _)| name)
}
