//! Interrupt vectors, and the set-up of the interrupt controllers.
//!
//! ```no_run
//! use core::sync::atomic::{AtomicU64, Ordering};
//! use guest_kernel_shim::interrupt;
//!
//! static RECEIVED: AtomicU64 = AtomicU64::new(0);
//!
//! interrupt::handle(0x70, || {
//!     RECEIVED.fetch_add(1, Ordering::Relaxed);
//! });
//! let received = interrupt::without(|| RECEIVED.load(Ordering::Relaxed));
//! ```

use crate::arch::lapic;
use crate::arch::platform;
use crate::arch::port::SafePort;

pub(crate) use crate::arch::vectors::handle_legacy;
pub use crate::arch::vectors::{Handler, acknowledge, handle, handle_nmi, unexpected};
pub use x86_64::instructions::interrupts::{are_enabled, disable, enable, without_interrupts as without};

/// The vector of events in a cooperative guest.
pub const EVENT: u8 = 0x40;
/// The vector of the local APIC's timer.
pub const TIMER: u8 = 0x41;
/// The first of 16 vectors for IPIs.
pub const IPI_FIRST: u8 = 0x50;
/// The first vector of channels.
pub const CHANNEL_FIRST: u8 = 0x60;

/// Masks the 8259s and enables the local APIC of the first processor.
pub(crate) fn start() {
    SafePort::PIC_1_MASK.write_u8(0xff);
    SafePort::PIC_2_MASK.write_u8(0xff);
    start_local();
}

/// Enables the local APIC of this processor.
pub(crate) fn start_local() {
    if !platform::is_cooperative() {
        lapic::enable(platform::has_x2apic());
    }
}
