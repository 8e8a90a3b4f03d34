//! Single instructions: RDTSC, CPUID, RDMSR, WRMSR, PAUSE, HLT.
#![expect(unsafe_code, reason = "each function is one instruction; every block carries SAFETY")]

use core::arch::asm;

/// The registers that CPUID returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpuid {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// Executes CPUID.
#[inline]
pub fn cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    let (eax, ebx, ecx, edx);
    // SAFETY: CPUID changes four registers only; the code restores RBX, which the compiler reserves.
    unsafe {
        asm!(
            "mov {kept:r}, rbx", "cpuid", "xchg {kept:r}, rbx",
            kept = out(reg) ebx, inlateout("eax") leaf => eax, inlateout("ecx") subleaf => ecx, lateout("edx") edx,
            options(nostack, nomem, preserves_flags)
        );
    }
    let ebx: u64 = ebx;
    #[expect(clippy::cast_possible_truncation, reason = "CPUID clears the upper half of RBX")]
    let ebx = ebx as u32;
    Cpuid { eax, ebx, ecx, edx }
}

/// Returns the time-stamp counter.
#[inline]
pub(crate) fn rdtsc() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: RDTSC writes EAX and EDX and clears their upper halves; CR4.TSD is clear.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high, options(nostack, nomem, preserves_flags)) };
    high << 32 | low
}

/// Executes PAUSE: this is one step of a spin loop.
#[inline]
pub(crate) fn pause() {
    core::hint::spin_loop();
}

/// Enables interrupts and halts until one arrives. STI's shadow keeps an interrupt from arriving between the two.
#[inline]
pub(crate) fn enable_and_halt() {
    x86_64::instructions::interrupts::enable_and_hlt();
}

/// Halts this processor until an NMI.
pub(crate) fn halt_with_interrupts_off() {
    x86_64::instructions::interrupts::disable();
    x86_64::instructions::hlt();
}

/// Reads an MSR.
///
/// # Safety
///
/// This processor has the MSR; otherwise RDMSR faults.
#[inline]
pub(crate) unsafe fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller promises that the MSR exists; RDMSR changes EAX and EDX only.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack, nomem, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR.
///
/// # Safety
///
/// This processor has the MSR, and the new value breaks nothing that Rust relies on.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the two halves of the value")]
pub(crate) unsafe fn wrmsr(msr: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the caller answers for the MSR and the value.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nostack, preserves_flags)) };
}
