//! The local APIC: through MSRs if the processor has x2APIC, through its MMIO page otherwise.
#![expect(unsafe_code, reason = "APIC registers; the values written are those of this module")]

use super::cpu::{rdmsr, wrmsr};
use core::sync::atomic::{AtomicBool, Ordering};

/// A register, as its offset in the MMIO page; its x2APIC MSR is 0x800 + offset / 16.
#[derive(Clone, Copy)]
pub(crate) struct Register(u32);

impl Register {
    const EOI: Self = Self(0x0b0);
    const SPURIOUS: Self = Self(0x0f0);
    pub const ICR: Self = Self(0x300);
    const ICR_HIGH: Self = Self(0x310);
    pub const LVT_TIMER: Self = Self(0x320);
    pub const LVT_LINT0: Self = Self(0x350);
    pub const TIMER_INITIAL: Self = Self(0x380);
    pub const TIMER_CURRENT: Self = Self(0x390);
    pub const TIMER_DIVIDE: Self = Self(0x3e0);
}

/// The spurious-interrupt vector, which takes no EOI.
pub(super) const SPURIOUS_VECTOR: u8 = 0xff;
/// Bit of [`Register::SPURIOUS`] that enables the local APIC.
const SOFTWARE_ENABLE: u32 = 1 << 8;
const PAGE: usize = 0xfee0_0000;
const APIC_BASE: u32 = 0x1b;
const ENABLE: u64 = 1 << 11;
const ENABLE_X2APIC: u64 = 1 << 10;
const TSC_DEADLINE: u32 = 0x6e0;

static BY_MSR: AtomicBool = AtomicBool::new(false);

/// Enables the local APIC of this processor.
pub(crate) fn enable(x2apic: bool) {
    BY_MSR.store(x2apic, Ordering::Relaxed);
    let mode = if x2apic { ENABLE | ENABLE_X2APIC } else { ENABLE };
    // SAFETY: every processor with a local APIC has the MSR; the x2APIC bit is set only where CPUID announces x2APIC.
    unsafe {
        let now = rdmsr(APIC_BASE);
        if now & mode != mode {
            wrmsr(APIC_BASE, now | mode);
        }
    }
    write(Register::SPURIOUS, u32::from(SPURIOUS_VECTOR) | SOFTWARE_ENABLE);
}

/// Writes a register.
#[inline]
pub(crate) fn write(register: Register, value: u32) {
    if BY_MSR.load(Ordering::Relaxed) {
        // SAFETY: x2APIC is enabled, and every interrupt that the write can raise has a gate in `trap`.
        unsafe { wrmsr(0x800 + (register.0 >> 4), u64::from(value)) };
    } else {
        // SAFETY: the MMIO page is mapped uncached, and no Rust object lies there.
        unsafe { at(register).write_volatile(value) };
    }
}

/// Writes the EOI register: the interrupt in service is done.
#[inline]
pub(super) fn end_interrupt() {
    write(Register::EOI, 0);
}

/// Reads a register.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the registers read so have 32 bits")]
pub(crate) fn read(register: Register) -> u32 {
    if BY_MSR.load(Ordering::Relaxed) {
        // SAFETY: x2APIC is enabled.
        unsafe { rdmsr(0x800 + (register.0 >> 4)) as u32 }
    } else {
        // SAFETY: as in `write`.
        unsafe { at(register).read_volatile() }
    }
}

/// Sends an IPI to one local APIC; `command` is the low half of the ICR.
#[inline]
pub(crate) fn command(apic: u32, command: u32) {
    if BY_MSR.load(Ordering::Relaxed) {
        // SAFETY: x2APIC is enabled. Only `smp` sends INIT and SIPI, to processors that it starts in the trampoline.
        unsafe { wrmsr(0x830, u64::from(apic) << 32 | u64::from(command)) };
    } else {
        write(Register::ICR_HIGH, apic << 24);
        write(Register::ICR, command);
    }
}

/// Whether this processor's last IPI is still pending (xAPIC only).
pub(crate) fn is_sending() -> bool {
    !BY_MSR.load(Ordering::Relaxed) && read(Register::ICR) & 1 << 12 != 0
}

/// Sets the TSC value at which the timer fires; 0 disarms it.
#[inline]
pub(crate) fn write_tsc_deadline(tsc: u64) {
    // SAFETY: callers use this only where CPUID announces TSC-deadline mode.
    unsafe { wrmsr(TSC_DEADLINE, tsc) };
}

fn at(register: Register) -> *mut u32 {
    core::ptr::with_exposed_provenance_mut(PAGE + register.0 as usize)
}
