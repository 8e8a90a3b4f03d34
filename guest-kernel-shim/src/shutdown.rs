//! Power-off, reboot and crash.
//!
//! ```no_run
//! use guest_kernel_shim::shutdown::{self, Kind};
//!
//! let checks_passed = true;
//! shutdown::end(if checks_passed { Kind::OFF } else { Kind::CRASH });
//! ```

use crate::arch::cpu;
use crate::arch::port::SafePort;
use crate::call;
use crate::platform::{Mode, mode};

pub use pv_abi::call::Shutdown as Kind;

/// ACPI PM1a control: sleep type 5 with the enable bit, which is S5 in QEMU's and Comity's ACPI tables.
const ACPI_OFF: u16 = 0x2000;
/// What isa-debug-exit takes for success (QEMU exits with 33) and for a crash (35).
const DEBUG_EXIT: [u8; 2] = [0x10, 0x11];
/// Keyboard controller command that pulses the reset line.
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

/// A PC has ports for power-off and for reset, but none to report a crash, and a power-off would look like success. So
/// a crash ends in a triple fault, after the kernel has printed its message.
fn by_ports(kind: Kind) {
    match kind {
        Kind::OFF => SafePort::ACPI_CONTROL.write_u16(ACPI_OFF),
        Kind::REBOOT => SafePort::KEYBOARD_COMMAND.write_u8(PULSE_RESET),
        _ => crate::arch::trap::triple_fault(),
    }
}
