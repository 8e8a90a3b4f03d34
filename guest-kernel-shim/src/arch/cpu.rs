//! Single instructions: the time-stamp counter, CPUID, MSRs, waiting.
#![expect(unsafe_code, reason = "each function is one instruction; every block carries SAFETY")]

use core::arch::asm;

/// What CPUID answers.
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
    // SAFETY: CPUID changes four registers only; RBX, which the compiler keeps, is put back.
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
    // SAFETY: RDTSC writes EAX and EDX, clearing the upper halves; CR4.TSD is clear.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high, options(nostack, nomem, preserves_flags)) };
    high << 32 | low
}

/// Tells the processor that this is a spin loop.
#[inline]
pub(crate) fn pause() {
    core::hint::spin_loop();
}

/// Lets interrupts in and waits for one; nothing can arrive between the two.
#[inline]
pub(crate) fn enable_and_halt() {
    x86_64::instructions::interrupts::enable_and_hlt();
}

/// Stops this processor until an NMI.
pub(crate) fn halt_with_interrupts_off() {
    x86_64::instructions::interrupts::disable();
    x86_64::instructions::hlt();
}

/// Reads an MSR.
///
/// # Safety
///
/// This processor has the register; otherwise the read faults.
#[inline]
pub(crate) unsafe fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller says that the register exists; RDMSR changes EAX and EDX only.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack, nomem, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR.
///
/// # Safety
///
/// This processor has the register, and what the value switches on or moves breaks nothing that Rust relies on.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the two halves of the value")]
pub(crate) unsafe fn wrmsr(msr: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the caller answers for the register and the value.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nostack, preserves_flags)) };
}
