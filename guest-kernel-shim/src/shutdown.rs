//! The end of this kernel.

use crate::arch::cpu;
use crate::arch::port::SafePort;
use crate::call;
use crate::platform::{Mode, mode};

pub use pv_abi::call::Shutdown as Kind;

/// Sleep type 5 with the enable bit: off, in QEMU's and Comity's ACPI.
const ACPI_OFF: u16 = 0x2000;
/// What isa-debug-exit takes for a good end (QEMU's exit code 33) and for a bad one (35).
const DEBUG_EXIT: [u8; 2] = [0x10, 0x11];
/// Pulses the reset line.
const PULSE_RESET: u8 = 0xfe;

/// Ends the whole guest.
pub fn end(kind: Kind) -> ! {
    crate::console::flush();
    match mode() {
        Mode::Cooperative => {
            call::shutdown(kind);
        }
        Mode::Full => by_ports(kind),
        Mode::Bare => {
            if kind != Kind::REBOOT {
                SafePort::DEBUG_EXIT.write_u8(DEBUG_EXIT[usize::from(kind == Kind::CRASH)]);
            }
            by_ports(kind);
        }
    }
    loop {
        cpu::halt_with_interrupts_off();
    }
}

/// A PC knows off and reset. There is no port to say that a kernel crashed, and powering off would look like a good end:
/// so it goes on to a triple fault, after what it printed.
fn by_ports(kind: Kind) {
    match kind {
        Kind::OFF => SafePort::ACPI_CONTROL.write_u16(ACPI_OFF),
        Kind::REBOOT => SafePort::KEYBOARD_COMMAND.write_u8(PULSE_RESET),
        _ => crate::arch::trap::triple_fault(),
    }
}
