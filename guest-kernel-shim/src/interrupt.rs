//! Interrupt vectors, and what switches interrupts on.

use crate::arch::lapic;
use crate::arch::platform;
use crate::arch::port::SafePort;

pub(crate) use crate::arch::vectors::handle_legacy;
pub use crate::arch::vectors::{Handler, acknowledge, handle, handle_nmi, unexpected};
pub use x86_64::instructions::interrupts::{are_enabled, disable, enable, without_interrupts as without};

/// Where events arrive in a cooperative guest.
pub const EVENT: u8 = 0x40;
/// The local APIC's timer.
pub const TIMER: u8 = 0x41;
/// First of 16 vectors by which processors call one another.
pub const IPI_FIRST: u8 = 0x50;
/// First of the vectors of channels.
pub const CHANNEL_FIRST: u8 = 0x60;

/// Masks the 8259s and switches the local APIC on, once for each processor.
pub(crate) fn start() {
    SafePort::PIC_1_MASK.write_u8(0xff);
    SafePort::PIC_2_MASK.write_u8(0xff);
    start_local();
}

/// Switches the local APIC of this processor on.
pub(crate) fn start_local() {
    if !platform::is_cooperative() {
        lapic::enable(platform::has_x2apic());
    }
}
