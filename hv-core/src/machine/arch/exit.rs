//! The end of a run: reports the verdict to an emulator, and powers the machine off.
#![expect(unsafe_code, reason = "port I/O and HLT")]

use super::bochs;
use super::cpuid::is_virtual;
use spin::Once;
use x86_64::instructions::port::Port;

/// How a machine is powered off: SLP_TYP and SLP_EN go to the PM1 control registers (§4.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SoftOff {
    /// Ports of PM1a and PM1b control; 0 = the machine has none.
    pub control: [u16; 2],
    /// SLP_TYP for each of the two registers, 0 … 7.
    pub kind: [u8; 2],
    /// A port and a value: if the port is not 0, writing the value to it makes firmware hand the registers over to the hypervisor.
    pub enable: (u16, u8),
}

/// Outcome of the machine's run, as the value for QEMU's isa-debug-exit (QEMU's exit status is twice that plus one).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Verdict {
    /// Every guest ended well.
    Well = 0x10,
    /// A guest was killed or crashed.
    GuestEndedBadly = 0x11,
    /// No guest was started: the bundle is missing or bad, or a processor lacks a required feature.
    Refused = 0x12,
    /// The hypervisor panicked.
    Panic = 0x13,
}

/// Port of QEMU's isa-debug-exit device.
const DEBUG_EXIT: u16 = 0xf4;
/// Bochs' shutdown port, which takes the letters of "Shutdown".
const BOCHS_SHUTDOWN: u16 = 0x8900;
/// SLP_EN of a PM1 control register, the bit position of SLP_TYP there, and SCI_EN: firmware has handed the registers over (ACPI 6.5
/// §4.8.3.2).
const SLEEP: u16 = 1 << 13;
const SLEEP_TYPE: u8 = 10;
const ENABLED: u16 = 1 << 0;
/// Polls of SCI_EN, by which firmware hands the registers over.
const PATIENCE: u32 = 1_000_000;

/// The firmware tables' data for powering off.
static SOFT_OFF: Once<SoftOff> = Once::new();

/// Records the machine's ACPI data, which [`power_off`] uses from now on.
pub fn learn(soft_off: SoftOff) {
    SOFT_OFF.call_once(|| soft_off);
}

fn soft_off(way: &SoftOff) {
    let [first, second] = way.control;
    // SAFETY: the firmware's tables name these ports as the ones that put the machine to sleep, which is the caller's intent.
    unsafe {
        let mut control = Port::<u16>::new(first);
        if control.read() & ENABLED == 0 && way.enable.0 != 0 {
            Port::<u8>::new(way.enable.0).write(way.enable.1);
            let _ = (0..PATIENCE).any(|_| control.read() & ENABLED != 0);
        }
        control.write(SLEEP | u16::from(way.kind[0]) << SLEEP_TYPE);
        if second != 0 {
            Port::<u16>::new(second).write(SLEEP | u16::from(way.kind[1]) << SLEEP_TYPE);
        }
    }
}

/// Powers the machine off: by isa-debug-exit or Bochs' port on machines that may have them, else by ACPI; if all fail, halts for good.
/// On a real PC these ports may belong to other devices.
pub fn power_off(verdict: Verdict) -> ! {
    if is_virtual() {
        // SAFETY: on a virtual machine an unclaimed port ignores the write; a claimed one ends the machine, which is the caller's intent.
        unsafe { Port::<u32>::new(DEBUG_EXIT).write(verdict as u32) };
    }
    if bochs::is_it() {
        for letter in b"Shutdown" {
            // SAFETY: Bochs' port, which ends the machine.
            unsafe { Port::<u8>::new(BOCHS_SHUTDOWN).write(*letter) };
        }
    }
    if let Some(way) = SOFT_OFF.get().filter(|way| way.control[0] != 0) {
        soft_off(way);
    }
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
