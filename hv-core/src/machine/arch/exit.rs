//! Leaving: telling whoever runs the machine how it went, and stopping.
#![expect(unsafe_code, reason = "port I/O and HLT")]

use x86_64::instructions::port::Port;

/// How the machine's run went: what QEMU's isa-debug-exit is given (its exit status is twice that plus one).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Verdict {
    /// Every guest ended well.
    Well = 0x10,
    /// A guest was killed or crashed.
    GuestEndedBadly = 0x11,
    /// Nothing was started: no bundle, a bad one, or a processor that lacks something.
    Refused = 0x12,
    /// A bug of ours.
    Panic = 0x13,
}

/// Port of QEMU's isa-debug-exit device.
const DEBUG_EXIT: u16 = 0xf4;
/// Bochs' way out: the letters of "Shutdown".
const BOCHS_SHUTDOWN: u16 = 0x8900;
/// PM1a control of QEMU's and Bochs' PC: S5 is SLP_EN with SLP_TYP 0.
const PM1A_CONTROL: u16 = 0x604;
const S5: u16 = 1 << 13;

/// Powers off: by isa-debug-exit where it is, else by ACPI, else it halts for good.
pub fn power_off(verdict: Verdict) -> ! {
    // SAFETY: an unclaimed port ignores the write; a claimed one ends the machine, which is what is asked.
    unsafe {
        Port::<u32>::new(DEBUG_EXIT).write(verdict as u32);
        for letter in b"Shutdown" {
            Port::<u8>::new(BOCHS_SHUTDOWN).write(*letter);
        }
        Port::<u16>::new(PM1A_CONTROL).write(S5);
    }
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
