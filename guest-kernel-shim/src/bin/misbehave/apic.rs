//! Every register of the local APIC with every kind of value. The timer is lost by that, so nothing sleeps afterwards.

use crate::check::Check;
use crate::raw;
use guest_kernel_shim::probe::{self, Fault};
use guest_kernel_shim::{interrupt, platform, println};

const FIRST: u32 = 0x800;
const LAST: u32 = 0x8ff;
/// The last one that does anything.
const USED_LAST: u32 = 0x83f;
const TSC_DEADLINE: u32 = 0x6e0;
const APIC_BASE: u32 = 0x1b;
const END_OF_INTERRUPT: u32 = 0x80b;
/// Interrupt command: INIT and start-up to oneself would be a reset.
const ICR: u32 = 0x830;
/// What APIC_BASE may not be: off, xAPIC only, elsewhere, reserved bits.
const BASES: [u64; 6] = [0, 0xfee0_0800, 0xfee0_0400, 0x1000_0c00, u64::MAX, 0xfee0_0d00 | 1 << 60];
const ROUNDS: u32 = 38;

/// Writes them, with interrupts off; a refusal is #GP and nothing else.
pub fn registers(check: &mut Check) {
    if platform::is_cooperative() {
        for msr in (FIRST..=LAST).chain([APIC_BASE, TSC_DEADLINE]) {
            check.holds(format_args!("RDMSR {msr:#x} is #GP"), probe::rdmsr(msr) == Err(Fault::GP));
            check.holds(format_args!("WRMSR {msr:#x} is #GP"), raw::wrmsr(msr, 0) == Err(Fault::GP));
        }
        return;
    }
    interrupt::disable();
    interrupt::handle_nmi(|| ());
    let mut random = 0x1234_5678_9abc_def1_u64;
    let (mut taken, mut refused) = (0u32, 0u32);
    for round in 0..ROUNDS {
        let last = if round == 0 { LAST } else { USED_LAST };
        for msr in (FIRST..=last).chain([TSC_DEADLINE]) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let value = match round {
                0 => 0,
                1 => u64::MAX,
                2 => 0xffff_ffff,
                3..=34 => 1 << (round - 3),
                _ => random,
            };
            // Delivery mode 0 only: the others are for `neighbours`.
            let value = if msr == ICR { value & !0x700 } else { value };
            match raw::wrmsr(msr, value) {
                Ok(()) => taken += 1,
                Err(Fault::GP) => refused += 1,
                Err(other) => {
                    check.one_of(format_args!("WRMSR {msr:#x} {value:#x}"), other.0, &[Fault::GP.0])
                }
            }
            let _ = probe::rdmsr(msr);
        }
    }
    println!("apic: {taken} writes taken, {refused} refused");
    for base in BASES {
        let answer = raw::wrmsr(APIC_BASE, base);
        check.holds(
            format_args!("APIC_BASE {base:#x}: {answer:?}"),
            !matches!(answer, Err(fault) if fault != Fault::GP),
        );
    }
    for _ in 0..256 {
        let _ = raw::wrmsr(END_OF_INTERRUPT, 0);
    }
    check.holds(format_args!("some were refused"), refused > 0);
}
