//! Wild ports, MSRs and instructions.

use crate::check::Check;
use crate::raw;
use guest_kernel_shim::platform::{Mode, mode};
use guest_kernel_shim::println;
use guest_kernel_shim::probe::{self, Fault, Privileged, Width};

/// Ports that end or reset the machine as they should, or that this guest talks through.
const SPARED: [core::ops::RangeInclusive<u16>; 9] = [
    0x64..=0x64,
    0x92..=0x92,
    0xb2..=0xb3,
    0xf4..=0xf7,
    0x3f8..=0x3ff,
    0x600..=0x607,
    0xcf8..=0xcff,
    0x8900..=0x8900,
    0xc100..=0xc4ff,
];

/// Whether an access of four bytes touches one of those.
fn is_spared(port: u16) -> bool {
    let last = port.saturating_add(3);
    SPARED.iter().any(|spared| port <= *spared.end() && last >= *spared.start())
}

/// Every port below 4096 and some above, read in all widths and written with odd values.
pub fn ports(check: &mut Check) {
    let above = (0x1000..=0xffffu32).step_by(0x3f1);
    let all = (0..0x1000).chain(above).filter_map(|port| u16::try_from(port).ok());
    let mut answered = 0u32;
    for port in all.filter(|port| !is_spared(*port)) {
        for (width, nothing) in [(Width::Byte, 0xff), (Width::Word, 0xffff), (Width::Double, 0xffff_ffff)] {
            answered += u32::from(probe::read_port(port, width) != nothing);
        }
        if mode() != Mode::Bare {
            for width in [Width::Byte, Width::Word, Width::Double] {
                raw::write_port(port, width, 0xdead_beef);
            }
        }
    }
    println!("ports: {answered} reads were answered by a device");
    // What was reprogrammed does not matter to this guest, as long as the guest goes on.
    check.holds(format_args!("the guest goes on after all ports"), true);
}

/// MSRs nobody has.
const UNKNOWN: [u32; 8] =
    [0x1234_5678, 0x0000_0fff, 0x0000_2000, 0x4000_0100, 0x4b56_4d00, 0xc000_2000, 0xc001_ffff, u32::MAX];
/// MSRs that would give a guest the host, with values that try it: VM_CR, VM_HSAVE_PA, SMM base, MC0 control, microcode.
const FORBIDDEN: [(u32, u64); 5] =
    [(0xc001_0114, 0), (0xc001_0117, 0x1000), (0xc001_0111, 0), (0x400, u64::MAX), (0x79, 0x1000)];
const EFER: u32 = 0xc000_0080;
/// Reserved bits and SVME.
const EFER_BAD: [u64; 4] = [1 << 63, 1 << 17, 1 << 9, 1 << 12];

/// Reads every MSR of the usual ranges; unknown ones must fault in a guest, and what would reach the host must not work.
pub fn msrs(check: &mut Check) {
    let ranges = [0..0x400, 0x800..0x900, 0xc000_0080..0xc000_0110, 0xc001_0000..0xc001_0200];
    let (mut readable, mut refused) = (0u32, 0u32);
    for msr in ranges.into_iter().flatten() {
        match probe::rdmsr(msr) {
            Ok(_) => readable += 1,
            Err(fault) => {
                refused += 1;
                check.one_of(format_args!("RDMSR {msr:#x}"), fault.0, &[Fault::GP.0]);
            }
        }
    }
    println!("msrs: {readable} readable, {refused} refused");
    if mode() == Mode::Bare {
        return;
    }
    for msr in UNKNOWN {
        check.holds(format_args!("RDMSR {msr:#x} is #GP"), probe::rdmsr(msr) == Err(Fault::GP));
        check.holds(format_args!("WRMSR {msr:#x} is #GP"), raw::wrmsr(msr, u64::MAX) == Err(Fault::GP));
    }
    for (msr, value) in FORBIDDEN {
        let answer = raw::wrmsr(msr, value);
        check.holds(
            format_args!("WRMSR {msr:#x} does not fault otherwise"),
            !matches!(answer, Err(fault) if fault != Fault::GP),
        );
        let kept = probe::rdmsr(msr);
        check.holds(format_args!("MSR {msr:#x} does not hold {value:#x}"), value == 0 || kept != Ok(value));
    }
    if let Ok(efer) = probe::rdmsr(EFER) {
        for bit in EFER_BAD {
            let answer = raw::wrmsr(EFER, efer | bit);
            check.holds(format_args!("EFER with {bit:#x} is #GP"), answer == Err(Fault::GP));
        }
        check.holds(format_args!("EFER is as it was"), probe::rdmsr(EFER) == Ok(efer));
    }
}

/// Instructions of a hypervisor, and others that a guest has no business with.
pub fn instructions(check: &mut Check) {
    if mode() == Mode::Bare {
        check.skip("a bare machine may have them");
        return;
    }
    for instruction in Privileged::ALL {
        let fault = raw::execute(instruction).err().map_or(u64::MAX, |fault| fault.0);
        check.one_of(format_args!("{instruction:?}"), fault, &[Fault::UD.0, Fault::GP.0]);
    }
}
