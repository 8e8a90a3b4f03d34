//! What becomes of each exit, by its basic reason (Intel SDM vol 3D appendix C). The test has every reason that there is by its name, and
//! says of those that have no arm here why they never come.

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
    /// It is not turned on, or cannot happen.
    Never,
}

/// Set beside the reason when the entry failed.
pub const ENTRY_FAILED: u32 = 1 << 31;

/// What becomes of an exit with this reason field.
pub const fn kind(why: u32) -> Kind {
    const LATE_MACHINE_CHECK: u32 = ENTRY_FAILED | 41;
    match why {
        0 => Kind::ExceptionOrNmi,
        1 | 3 | 52 => Kind::Interrupted, // external interrupt, INIT (which waits for VMXOFF, §25.2), preemption timer
        2 => Kind::TripleFault,
        7 | 10 | 12 | 18 | 30..=32 | 40 | 43 => Kind::Frequent,
        8 => Kind::NmiWindow,
        9 => Kind::TaskSwitch,
        11 | 15 | 17 => Kind::Undefined,      // GETSEC, RDPMC, RSM
        19..=27 | 50 | 53 => Kind::Undefined, // VMX's own
        36 | 39 => Kind::Undefined,           // MWAIT, MONITOR
        55 | 59 => Kind::Undefined,           // XSETBV, VMFUNC
        76 | 77 | 84 | 85 => Kind::Undefined, // SEAMCALL, TDCALL, RDMSR and WRMSRNS with an immediate index
        13 | 54 => Kind::CacheFlush,
        28 => Kind::ControlRegister,
        29 => Kind::DebugRegister,
        33 => Kind::BadState,
        41 | LATE_MACHINE_CHECK => Kind::MachineCheck,
        48 => Kind::Memory,
        failed if failed & ENTRY_FAILED != 0 => Kind::BadState,
        _ => Kind::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::super::controls::{LATER, Primary, Secondary, WANTED};
    use super::Kind::{
        BadState, CacheFlush, ControlRegister, DebugRegister, ExceptionOrNmi, Frequent, Interrupted,
        MachineCheck, Memory, NmiWindow, TaskSwitch, TripleFault, Undefined,
    };
    use super::*;
    use Expected::{Is, Never};

    /// What the manual's table and our controls amount to.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Expected {
        /// It may come, and this becomes of it.
        Is(Kind),
        /// It is not turned on, or cannot happen, for this reason.
        Never(&'static str),
    }

    const SMM: Expected = Never("SMM is firmware's: no dual-monitor treatment");
    const NOT_SET: Expected = Never("its control is clear, so the instruction is the guest's own");
    const DISABLED: Expected = Never("its control is clear, so the instruction raises #UD by itself");
    const FEATURE_OFF: Expected = Never("the feature that it belongs to is off");
    const RESERVED: Expected = Never("no processor has it");

    /// Reasons in their order, with the manual's names.
    const REASONS: [(&str, Expected); 86] = [
        ("exception or NMI", Is(ExceptionOrNmi)),
        ("external interrupt", Is(Interrupted)),
        ("triple fault", Is(TripleFault)),
        ("INIT", Is(Interrupted)), // it waits for VMXOFF (§25.2)
        ("start-up IPI", Never("no vCPU waits for one in guest mode")),
        ("I/O SMI", SMM),
        ("other SMI", SMM),
        ("interrupt window", Is(Frequent)),
        ("NMI window", Is(NmiWindow)),
        ("task switch", Is(TaskSwitch)),
        ("CPUID", Is(Frequent)),
        ("GETSEC", Is(Undefined)),
        ("HLT", Is(Frequent)),
        ("INVD", Is(CacheFlush)),
        ("INVLPG", NOT_SET),
        ("RDPMC", Is(Undefined)),
        ("RDTSC", NOT_SET),
        ("RSM", Is(Undefined)),
        ("VMCALL", Is(Frequent)),
        ("VMCLEAR", Is(Undefined)),
        ("VMLAUNCH", Is(Undefined)),
        ("VMPTRLD", Is(Undefined)),
        ("VMPTRST", Is(Undefined)),
        ("VMREAD", Is(Undefined)),
        ("VMRESUME", Is(Undefined)),
        ("VMWRITE", Is(Undefined)),
        ("VMXOFF", Is(Undefined)),
        ("VMXON", Is(Undefined)),
        ("control-register access", Is(ControlRegister)),
        ("MOV DR", Is(DebugRegister)),
        ("I/O instruction", Is(Frequent)),
        ("RDMSR", Is(Frequent)),
        ("WRMSR", Is(Frequent)),
        ("entry failed: guest state", Is(BadState)),
        ("entry failed: MSR loading", Never("entries load no MSRs by list")),
        ("35", RESERVED),
        ("MWAIT", Is(Undefined)),
        ("monitor trap flag", NOT_SET),
        ("38", RESERVED),
        ("MONITOR", Is(Undefined)),
        ("PAUSE", Is(Frequent)),
        ("entry failed: machine check", Is(MachineCheck)),
        ("42", RESERVED),
        ("TPR below threshold", Is(Frequent)),
        ("APIC access", FEATURE_OFF),
        ("virtualized EOI", FEATURE_OFF),
        ("access to GDTR or IDTR", NOT_SET),
        ("access to LDTR or TR", NOT_SET),
        ("EPT violation", Is(Memory)),
        ("EPT misconfiguration", Never("no entry of ours is malformed (`policy::mm::nested`)")),
        ("INVEPT", Is(Undefined)),
        ("RDTSCP", DISABLED),
        ("preemption timer", Is(Interrupted)),
        ("INVVPID", Is(Undefined)),
        ("WBINVD, WBNOINVD", Is(CacheFlush)),
        ("XSETBV", Is(Undefined)),
        ("APIC write", FEATURE_OFF),
        ("RDRAND", NOT_SET),
        ("INVPCID", DISABLED),
        ("VMFUNC", Is(Undefined)),
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
        ("SEAMCALL", Is(Undefined)),
        ("TDCALL", Is(Undefined)),
        ("RDMSRLIST", DISABLED),
        ("WRMSRLIST", DISABLED),
        ("URDMSR", DISABLED),
        ("UWRMSR", DISABLED),
        ("82", RESERVED),
        ("83", RESERVED),
        ("RDMSR with an immediate index", Is(Undefined)),
        ("WRMSRNS with an immediate index", Is(Undefined)),
    ];

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
                let (known, expected) = REASONS[*reason];
                assert_eq!(known, *name);
                assert_eq!(set >> bit & 1 != 0, matches!(expected, Is(_)), "{name}: {expected:?}");
            }
        };
        of(&PRIMARY, primary.bits());
        of(&SECONDARY, secondary.bits());
        // PAUSE exits by one of two controls; one is wanted where it is there.
        assert!(!primary.contains(Primary::from_bits_retain(1 << 30)), "no exit for a single PAUSE");
        assert!(!secondary.contains(Secondary::PAUSE_LOOP) && kind(40) == Frequent);
    }

    #[test]
    fn every_reason_is_named_once_at_its_number_and_decoded_as_the_table_says() {
        for (number, (name, expected)) in REASONS.iter().enumerate() {
            let same = REASONS.iter().filter(|(other, _)| other == name).count();
            assert_eq!(same, 1, "{name}");
            let by_number = name.parse::<usize>().ok();
            assert!(by_number.is_none_or(|named| named == number && *expected == RESERVED), "{name}");
            let decoded = match expected {
                Is(kind) => *kind,
                Never(_) => Kind::Never,
            };
            assert_eq!(kind(u32::try_from(number).unwrap()), decoded, "{name}: {expected:?}");
        }
        for beyond in (86..0x1_0000).chain([0x7fff_ffff]) {
            assert_eq!(kind(beyond), Kind::Never, "{beyond}");
        }
        for (number, name) in
            [(9, "task switch"), (33, "entry failed: guest state"), (55, "XSETBV"), (77, "TDCALL")]
        {
            assert_eq!(REASONS[number].0, name);
        }
        assert_eq!(kind(0x8000_0021), BadState);
        assert_eq!(kind(0x8000_0022), BadState);
        assert_eq!(kind(0x8000_0029), MachineCheck);
    }
}
