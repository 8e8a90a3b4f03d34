//! Every port, and every MSR that a permission map has a bit for.

use crate::check::Check;
use crate::raw;
use guest_kernel_shim::platform::{Mode, mode};
use guest_kernel_shim::println;
use guest_kernel_shim::probe::{self, Fault, Width};

/// Ports that end or reset this guest as they should when they are written, or that it talks through.
const NOT_WRITTEN: [core::ops::RangeInclusive<u16>; 5] =
    [0x60..=0x64, 0x92..=0x92, 0x3f8..=0x3ff, 0x600..=0x607, 0xcf8..=0xcff];

/// Each of the 65,536 once: one kind of guest reads the odd ones and writes the even ones, but for those that end it; the other kind
/// the other way round.
pub fn every_port(check: &mut Check) {
    if mode() == Mode::Bare {
        check.skip("real devices are there");
        return;
    }
    let mut answered = 0u32;
    let odd = u16::from(mode() == Mode::Cooperative);
    for port in 0..=u16::MAX {
        if port % 2 == odd {
            answered += u32::from(probe::read_port(port, Width::Byte) != 0xff);
        } else if !NOT_WRITTEN.iter().any(|spared| spared.contains(&port)) {
            raw::write_port(port, Width::Byte, 0x5a);
        }
    }
    println!("every_port: {answered} reads were answered by a device");
    check.holds(format_args!("few devices answer"), answered < 200);
}

/// What cannot be read cannot be written: 24,576 of them. The APIC's are elsewhere.
pub fn every_msr(check: &mut Check) {
    if mode() == Mode::Bare {
        check.skip("a machine has what it has");
        return;
    }
    let ranges = [0..0x800, 0x900..0x2000, 0xc000_0000..0xc000_2000, 0xc001_0000..0xc001_2000];
    let mut refused = 0u32;
    for msr in ranges.into_iter().flatten() {
        match probe::rdmsr(msr) {
            Ok(_) => {}
            Err(fault) => {
                refused += 1;
                check.one_of(format_args!("RDMSR {msr:#x}"), fault.0, &[Fault::GP.0]);
                let answer = raw::wrmsr(msr, u64::MAX);
                check.holds(format_args!("WRMSR {msr:#x} is #GP"), answer == Err(Fault::GP));
            }
        }
    }
    println!("every_msr: {refused} refused");
    check.holds(format_args!("most are refused"), refused > 24_000);
}
