//! Clears state of firmware and loader that the entry code does not overwrite: registers that change the effect of the
//! hypervisor's instructions, or that a guest could read. Each register is overwritten whole (Intel SDM vol 4; AMD APM vol 2 appendix A).
#![expect(unsafe_code, reason = "MSRs, XSETBV, WRPKRU, and the FPU's control words")]

use super::cpuid::leaf;
use super::machine_check;
use core::arch::asm;
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;

/// MSRs that are zeroed on every processor, since the hypervisor does not use them: SYSENTER, DEBUGCTL, STAR, LSTAR, CSTAR, SFMASK,
/// FS base, KERNEL_GS_BASE. Every x86-64 processor has these.
const ALWAYS: [u32; 10] = [
    0x174,
    0x175,
    0x176,
    0x1d9,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0100,
    0xc000_0102,
];
const TSC_AUX: u32 = 0xc000_0103;
const XSS: u32 = 0xda0;
const U_CET: u32 = 0x6a0;
const S_CET: u32 = 0x6a2;
const PKRS: u32 = 0x6e1;
/// XCR0: x87 only. A guest that sets CR4.OSXSAVE itself cannot reach state that the hypervisor does not switch.
const XCR0_X87: u32 = 1;
/// MXCSR after reset: all exceptions are masked.
const MXCSR_RESET: u32 = 0x1f80;

/// Puts this processor's registers into the state that the rest of the hypervisor expects. The caller has installed the IDT; no vCPU
/// has run on this processor.
pub fn registers() {
    let [_, _, features, _] = leaf(1, 0);
    let [_, _, structured_c, structured_d] = leaf(7, 0);
    let [_, _, _, extended] = leaf(0x8000_0001, 0);
    let has = |word: u32, bit: u32| word >> bit & 1 != 0;
    let there = [
        (TSC_AUX, has(extended, 27) || has(structured_c, 22)),
        (XSS, has(leaf(0xd, 1)[0], 3)),
        (U_CET, has(structured_c, 7) || has(structured_d, 20)),
        (S_CET, has(structured_c, 7) || has(structured_d, 20)),
        (PKRS, has(structured_c, 31)),
    ];
    let optional = there.iter().filter(|(_, there)| *there).map(|(index, _)| *index);
    for index in ALWAYS.into_iter().chain(optional) {
        // SAFETY: CPUID says that the processor has the MSR; zero is a value of each; the hypervisor uses none of them.
        unsafe { Msr::new(index).write(0) };
    }
    machine_check::clear();
    // SAFETY: the processor has each instruction, which is enabled while it runs; no code of ours has state in XCR0, PKRU or the FPU (I-6).
    unsafe {
        if has(features, 26) {
            briefly(Cr4Flags::OSXSAVE, || {
                asm!("xsetbv", in("ecx") 0, in("eax") XCR0_X87, in("edx") 0, options(nomem, nostack));
            });
        }
        if has(structured_c, 3) {
            briefly(Cr4Flags::PROTECTION_KEY_USER, || {
                asm!("wrpkru", in("ecx") 0, in("eax") 0, in("edx") 0, options(nomem, nostack));
            });
        }
        asm!("fninit", "ldmxcsr [{}]", in(reg) &MXCSR_RESET, options(nostack, readonly));
    }
}

/// Runs `act` with one more bit of CR4 set, and restores CR4.
///
/// # Safety
///
/// The processor has the bit, and the hypervisor's own instructions do not depend on it.
unsafe fn briefly(bit: Cr4Flags, act: impl FnOnce()) {
    let before = Cr4::read_raw();
    // SAFETY: by contract.
    unsafe { Cr4::write_raw(before | bit.bits()) };
    act();
    // SAFETY: as before.
    unsafe { Cr4::write_raw(before) };
}
