//! Which instructions raise #UD where they exit. The test has every exit code that there is (APM vol 2 appendix C) by its name, checks
//! what [`super::decode`] makes of it, and says why some never come.

/// Whether the instruction with this exit code raises #UD: a guest has no business with it, or CPUID does not announce it.
pub const fn is_undefined(code: u64) -> bool {
    matches!(
        code,
        0x6f // RDPMC
            | 0x7a // INVLPGA
            | 0x80 // VMRUN
            | 0x82..=0x87 // VMLOAD, VMSAVE, STGI, CLGI, SKINIT, RDTSCP
            | 0x8a..=0x8b // MONITOR, MONITORX, MWAIT, MWAITX
            | 0x8d..=0x8e // XSETBV, RDPRU
    )
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::super::tests::vcpu_on;
    use crate::guest::seam::Exit;
    use Fate::{Handled, Never, Undefined};
    use core::ops::RangeInclusive;

    /// What becomes of an exit.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Fate {
        /// It has an arm of its own in `decode`.
        Handled,
        /// The instruction raises #UD: a guest has no business with it, or CPUID does not announce it.
        Undefined,
        /// It is not intercepted, or not turned on, for this reason.
        Never(&'static str),
    }

    const GUESTS_OWN: Fate = Never("the register is the guest's");
    const NO_SECRET: Fate = Never("the instruction touches the guest's state only");
    const ENCRYPTED: Fate = Never("for encrypted guests");

    /// Codes, the manual's names, and what becomes of them. Those below 0xc0 are the intercept bits one after another: bit n of intercept
    /// vector v exits with 32 v + n (appendix B).
    const CODES: [(RangeInclusive<u64>, &str, Fate); 76] = [
        (0x00..=0x0f, "read of CR0 … CR15", GUESTS_OWN),
        (0x10..=0x13, "write of CR0 … CR3", GUESTS_OWN),
        (0x14..=0x14, "write of CR4", Handled),
        (0x15..=0x17, "write of CR5 … CR7", Never("#UD by itself")),
        (0x18..=0x18, "write of CR8", Handled),
        (0x19..=0x1f, "write of CR9 … CR15", Never("#UD by itself")),
        (0x20..=0x2f, "read of DR0 … DR15", Handled),
        (0x30..=0x3f, "write of DR0 … DR15", Handled),
        (0x40..=0x40, "exception 0", GUESTS_OWN),
        (0x41..=0x41, "#DB", Handled),
        (0x42..=0x50, "exceptions 2 … 16", GUESTS_OWN),
        (0x51..=0x51, "#AC", Handled),
        (0x52..=0x52, "#MC", Handled),
        (0x53..=0x5f, "exceptions 19 … 31", GUESTS_OWN),
        (0x60..=0x60, "INTR", Handled),
        (0x61..=0x61, "NMI", Handled),
        (0x62..=0x62, "SMI", Never("firmware's")),
        (0x63..=0x63, "INIT", Handled),
        (0x64..=0x64, "VINTR", Handled),
        (0x65..=0x65, "selective write of CR0", GUESTS_OWN),
        (0x66..=0x6c, "reads of IDTR, GDTR, LDTR, TR, writes of IDTR, GDTR, LDTR", GUESTS_OWN),
        (0x6d..=0x6d, "write of TR", Handled),
        (0x6e..=0x6e, "RDTSC", Never("the counter is every guest's clock")),
        (0x6f..=0x6f, "RDPMC", Undefined),
        (0x70..=0x71, "PUSHF, POPF", NO_SECRET),
        (0x72..=0x72, "CPUID", Handled),
        (0x73..=0x73, "RSM", Never("#UD outside SMM by itself")),
        (0x74..=0x74, "IRET", Handled),
        (0x75..=0x75, "INT n", NO_SECRET),
        (0x76..=0x76, "INVD", Handled),
        (0x77..=0x77, "PAUSE", Handled),
        (0x78..=0x78, "HLT", Handled),
        (0x79..=0x79, "INVLPG", Never("concerns the guest's own address-space identifier")),
        (0x7a..=0x7a, "INVLPGA", Undefined),
        (0x7b..=0x7b, "IOIO", Handled),
        (0x7c..=0x7c, "MSR", Handled),
        (0x7d..=0x7d, "task switch", Handled),
        (0x7e..=0x7e, "FERR_FREEZE", Never("legacy x87 errors are the guest's")),
        (0x7f..=0x7f, "SHUTDOWN", Handled),
        (0x80..=0x80, "VMRUN", Undefined),
        (0x81..=0x81, "VMMCALL", Handled),
        (0x82..=0x82, "VMLOAD", Undefined),
        (0x83..=0x83, "VMSAVE", Undefined),
        (0x84..=0x84, "STGI", Undefined),
        (0x85..=0x85, "CLGI", Undefined),
        (0x86..=0x86, "SKINIT", Undefined),
        (0x87..=0x87, "RDTSCP", Undefined),
        (0x88..=0x88, "INT1", Handled),
        (0x89..=0x89, "WBINVD, WBNOINVD", Handled),
        (0x8a..=0x8a, "MONITOR, MONITORX", Undefined),
        (0x8b..=0x8b, "MWAIT, MWAITX", Undefined),
        (0x8c..=0x8c, "MWAIT when armed", Never("0x8b comes first")),
        (0x8d..=0x8d, "XSETBV", Undefined),
        (0x8e..=0x8e, "RDPRU", Undefined),
        (0x8f..=0x8f, "trap after a write of EFER", ENCRYPTED),
        (0x90..=0x9f, "trap after a write of CR0 … CR15", ENCRYPTED),
        (0xa0..=0xa0, "INVLPGB", Never("#UD by itself: not turned on for guests (§5.5.3)")),
        (0xa1..=0xa1, "illegal INVLPGB", Never("#UD by itself: not turned on for guests (§5.5.3)")),
        (0xa2..=0xa2, "INVPCID", Never("concerns the guest's own address-space identifier")),
        (0xa3..=0xa3, "MCOMMIT", Never("#UD without EFER.MCOMMIT, which is refused")),
        (0xa4..=0xa4, "TLBSYNC", Never("#UD by itself: not turned on for guests (§5.5.3)")),
        (0xa5..=0xa5, "bus lock", Never("no threshold is set")),
        (0xa6..=0xa6, "HLT when idle", Never("0x78 comes first")),
        (0xa7..=0xbf, "reserved", Never("no processor has it")),
        (0x400..=0x400, "nested page fault", Handled),
        (0x401..=0x401, "AVIC: incomplete IPI", Never("AVIC is off")),
        (0x402..=0x402, "AVIC: no acceleration", Never("AVIC is off")),
        (0x403..=0x403, "VMGEXIT", ENCRYPTED),
        (0xf000_0000..=0xf000_0000, "reserved for the hypervisor", Never("no processor gives it")),
        (0xffff_fffc..=0xffff_fffc, "invalid PMC", Never("PMC virtualization is off")),
        (0xffff_fffd..=0xffff_fffd, "idle required", ENCRYPTED),
        (0xffff_fffe..=0xffff_fffe, "busy", ENCRYPTED),
        (0xffff_ffff..=0xffff_ffff, "invalid state, in 32 bits", Handled),
        (0xffff_ffff_ffff_fffc..=0xffff_ffff_ffff_fffc, "invalid PMC", Never("PMC virtualization is off")),
        (0xffff_ffff_ffff_fffd..=0xffff_ffff_ffff_fffe, "busy, idle required", ENCRYPTED),
        (u64::MAX..=u64::MAX, "invalid state", Handled),
    ];

    /// What becomes of a code; none that no manual names.
    fn fate(code: u64) -> Option<Fate> {
        CODES.iter().find(|(codes, _, _)| codes.contains(&code)).map(|(_, _, fate)| *fate)
    }

    /// What is intercepted while a vCPU waits for something: MOV to CR8, VINTR, LTR, IRET.
    const SOMETIMES: [usize; 4] = [0x18, 0x64, 0x6d, 0x74];

    #[test]
    fn every_exit_code_is_named_once_and_decoded_as_the_table_says() {
        for code in (0..0x500)
            .chain(0xefff_fff0..0xf000_0010)
            .chain(0xffff_fff0..=0xffff_ffff)
            .chain(u64::MAX - 16..=u64::MAX)
        {
            let named = CODES.iter().filter(|(codes, _, _)| codes.contains(&code)).count();
            assert!(named <= 1 && (code >= 0xc0 || named == 1), "{code:#x} is named {named} times");
            let mut vcpu = vcpu_on(None);
            vcpu.vmcb.control.exit_code = code;
            let exit = decode::exit(&mut vcpu, code);
            match fate(code) {
                Some(Handled) => assert!(
                    !matches!(exit, Exit::Undefined | Exit::Unknown { .. }),
                    "{code:#x} has no arm: {exit:?}"
                ),
                Some(Undefined) => assert_eq!(exit, Exit::Undefined, "{code:#x}"),
                Some(Never(_)) | None => assert_eq!(exit, Exit::Unknown { code }, "{code:#x}"),
            }
        }
    }

    #[test]
    fn what_is_intercepted_has_an_arm_and_what_has_an_arm_is_intercepted() {
        let vcpu = vcpu_on(None);
        let control = &vcpu.vmcb.control;
        let vectors = [
            control.intercept_cr.bits(),
            control.intercept_dr,
            control.intercept_exceptions,
            control.intercept_instructions.bits(),
            control.intercept_svm.bits(),
            0,
        ];
        for (code, fate) in (0..0xc0_usize).map(|code| (code, fate(code as u64))) {
            let intercepted = vectors[code / 32] >> (code % 32) & 1 != 0;
            let has_arm = matches!(fate, Some(Handled | Undefined));
            assert_eq!(intercepted, has_arm && !SOMETIMES.contains(&code), "{code:#x}: {fate:?}");
            assert!(has_arm || !SOMETIMES.contains(&code), "{code:#x}: {fate:?}");
        }
    }
}
