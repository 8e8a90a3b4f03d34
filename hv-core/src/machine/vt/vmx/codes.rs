//! Every basic exit reason that there is, and what becomes of it (Intel SDM vol 3D appendix C).

/// What becomes of an exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `decode::exit` handles it before it comes to the table.
    Frequent,
    /// The exception of the interruption information, or an NMI.
    ExceptionOrNmi,
    /// Something of the machine's; no instruction of the guest's exited.
    Interrupted,
    /// The guest can take an NMI.
    NmiWindow,
    /// A triple fault.
    TripleFault,
    /// A task switch.
    TaskSwitch,
    /// An access to a control register.
    ControlRegister,
    /// MOV to or from a debug register.
    DebugRegister,
    /// An EPT violation.
    Memory,
    /// WBINVD, WBNOINVD or INVD.
    CacheFlush,
    /// The processor refused the vCPU's state.
    BadState,
    /// A machine check met the entry (§26.9).
    MachineCheck,
    /// The instruction raises #UD: a guest has no business with it, or CPUID does not announce it.
    Undefined,
    /// It is not turned on, or cannot happen, for this reason.
    Never(&'static str),
}

use Kind::{
    BadState, CacheFlush, ControlRegister, DebugRegister, ExceptionOrNmi, Frequent, Interrupted,
    MachineCheck, Memory, Never, NmiWindow, TaskSwitch, TripleFault, Undefined,
};

const SMM: Kind = Never("SMM is firmware's: no dual-monitor treatment");
const NOT_SET: Kind = Never("its control is clear, so the instruction is the guest's own");
const DISABLED: Kind = Never("its control is clear, so the instruction raises #UD by itself");
const FEATURE_OFF: Kind = Never("the feature that it belongs to is off");
const RESERVED: Kind = Never("no processor has it");

/// Reasons in their order, with the manual's names.
pub const REASONS: [(&str, Kind); 86] = [
    ("exception or NMI", ExceptionOrNmi),
    ("external interrupt", Interrupted),
    ("triple fault", TripleFault),
    ("INIT", Interrupted), // it waits for VMXOFF (§25.2)
    ("start-up IPI", Never("no vCPU waits for one in guest mode")),
    ("I/O SMI", SMM),
    ("other SMI", SMM),
    ("interrupt window", Frequent),
    ("NMI window", NmiWindow),
    ("task switch", TaskSwitch),
    ("CPUID", Frequent),
    ("GETSEC", Undefined),
    ("HLT", Frequent),
    ("INVD", CacheFlush),
    ("INVLPG", NOT_SET),
    ("RDPMC", Undefined),
    ("RDTSC", NOT_SET),
    ("RSM", Undefined),
    ("VMCALL", Frequent),
    ("VMCLEAR", Undefined),
    ("VMLAUNCH", Undefined),
    ("VMPTRLD", Undefined),
    ("VMPTRST", Undefined),
    ("VMREAD", Undefined),
    ("VMRESUME", Undefined),
    ("VMWRITE", Undefined),
    ("VMXOFF", Undefined),
    ("VMXON", Undefined),
    ("control-register access", ControlRegister),
    ("MOV DR", DebugRegister),
    ("I/O instruction", Frequent),
    ("RDMSR", Frequent),
    ("WRMSR", Frequent),
    ("entry failed: guest state", BadState),
    ("entry failed: MSR loading", Never("entries load no MSRs by list")),
    ("35", RESERVED),
    ("MWAIT", Undefined),
    ("monitor trap flag", NOT_SET),
    ("38", RESERVED),
    ("MONITOR", Undefined),
    ("PAUSE", Frequent),
    ("entry failed: machine check", MachineCheck),
    ("42", RESERVED),
    ("TPR below threshold", Frequent),
    ("APIC access", FEATURE_OFF),
    ("virtualized EOI", FEATURE_OFF),
    ("access to GDTR or IDTR", NOT_SET),
    ("access to LDTR or TR", NOT_SET),
    ("EPT violation", Memory),
    ("EPT misconfiguration", Never("no entry of ours is malformed (`policy::mm::nested`)")),
    ("INVEPT", Undefined),
    ("RDTSCP", DISABLED),
    ("preemption timer", Interrupted),
    ("INVVPID", Undefined),
    ("WBINVD, WBNOINVD", CacheFlush),
    ("XSETBV", Undefined),
    ("APIC write", FEATURE_OFF),
    ("RDRAND", NOT_SET),
    ("INVPCID", DISABLED),
    ("VMFUNC", Undefined),
    ("ENCLS", Never("its control is clear; SGX's memory is in no guest's tables")),
    ("RDSEED", NOT_SET),
    ("page-modification log full", FEATURE_OFF),
    ("XSAVES", DISABLED),
    ("XRSTORS", DISABLED),
    ("PCONFIG", DISABLED),
    ("sub-page permission", FEATURE_OFF),
    ("UMWAIT", DISABLED),
    ("TPAUSE", DISABLED),
    ("LOADIWKEY", Never("#UD without CR4.KL, which is refused")),
    ("ENCLV", Never("its control is clear; SGX's memory is in no guest's tables")),
    ("71", RESERVED),
    ("ENQCMD: PASID", FEATURE_OFF),
    ("ENQCMDS: PASID", FEATURE_OFF),
    ("bus lock", FEATURE_OFF),
    ("instruction timeout", FEATURE_OFF),
    ("SEAMCALL", Undefined),
    ("TDCALL", Undefined),
    ("RDMSRLIST", DISABLED),
    ("WRMSRLIST", DISABLED),
    ("URDMSR", DISABLED),
    ("UWRMSR", DISABLED),
    ("82", RESERVED),
    ("83", RESERVED),
    ("RDMSR with an immediate index", Undefined),
    ("WRMSRNS with an immediate index", Undefined),
];

/// Set beside the reason when the entry failed.
pub const ENTRY_FAILED: u32 = 1 << 31;

/// The reason of a machine check at entry.
const AT_ENTRY: u32 = 41;

/// What becomes of an exit with this reason field.
pub fn kind(why: u32) -> Kind {
    if why & ENTRY_FAILED != 0 {
        return if why == ENTRY_FAILED | AT_ENTRY { MachineCheck } else { BadState };
    }
    let known = usize::try_from(why).ok().and_then(|why| REASONS.get(why));
    known.map_or(RESERVED, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::super::controls::{LATER, Primary, Secondary, WANTED};
    use super::*;

    /// Reasons that a control turns on.
    const PRIMARY: [(usize, u32, &str); 15] = [
        (7, 2, "interrupt window"),
        (12, 7, "HLT"),
        (14, 9, "INVLPG"),
        (36, 10, "MWAIT"),
        (15, 11, "RDPMC"),
        (16, 12, "RDTSC"),
        (43, 21, "TPR below threshold"),
        (8, 22, "NMI window"),
        (29, 23, "MOV DR"),
        (30, 25, "I/O instruction"),
        (37, 27, "monitor trap flag"),
        (31, 28, "RDMSR"),
        (32, 28, "WRMSR"),
        (39, 29, "MONITOR"),
        (48, 31, "EPT violation"),
    ];
    const SECONDARY: [(usize, u32, &str); 13] = [
        (44, 0, "APIC access"),
        (48, 1, "EPT violation"),
        (46, 2, "access to GDTR or IDTR"),
        (47, 2, "access to LDTR or TR"),
        (51, 3, "RDTSCP"),
        (54, 6, "WBINVD, WBNOINVD"),
        (57, 11, "RDRAND"),
        (58, 12, "INVPCID"),
        (60, 15, "ENCLS"),
        (61, 16, "RDSEED"),
        (62, 17, "page-modification log full"),
        (63, 20, "XSAVES"),
        (64, 20, "XRSTORS"),
    ];

    #[test]
    fn an_exit_that_a_control_turns_on_has_an_arm_and_one_with_an_arm_has_its_control() {
        let primary = WANTED.primary | LATER;
        let secondary = WANTED.secondary;
        let of = |reasons: &[(usize, u32, &str)], set: u32| {
            for (reason, bit, name) in reasons {
                let (known, kind) = REASONS[*reason];
                assert_eq!(known, *name);
                assert_eq!(set >> bit & 1 != 0, !matches!(kind, Never(_)), "{name}: {kind:?}");
            }
        };
        of(&PRIMARY, primary.bits());
        of(&SECONDARY, secondary.bits());
        // PAUSE exits by one of two controls; one is wanted where it is there.
        assert!(!primary.contains(Primary::from_bits_retain(1 << 30)), "no exit for a single PAUSE");
        assert!(!secondary.contains(Secondary::PAUSE_LOOP) && kind(40) == Frequent);
    }

    #[test]
    fn every_reason_is_named_once_at_its_number() {
        for (number, (name, kind)) in REASONS.iter().enumerate() {
            let same = REASONS.iter().filter(|(other, _)| other == name).count();
            assert_eq!(same, 1, "{name}");
            let by_number = name.parse::<usize>().ok();
            assert!(by_number.is_none_or(|named| named == number && *kind == RESERVED), "{name}");
        }
        for (number, name) in
            [(9, "task switch"), (33, "entry failed: guest state"), (55, "XSETBV"), (77, "TDCALL")]
        {
            assert_eq!(REASONS[number].0, name);
        }
        assert_eq!(kind(9), TaskSwitch);
        assert_eq!(kind(0x8000_0021), BadState);
        assert_eq!(kind(0x8000_0022), BadState);
        assert!(matches!(kind(1000), Never(_)));
    }
}
