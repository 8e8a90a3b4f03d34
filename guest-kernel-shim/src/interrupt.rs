//! Interrupt vectors and their handlers.

use crate::arch::lapic::{self, Register};
use crate::arch::port::SafePort;
use crate::{event, platform};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use spin::Mutex;

pub use x86_64::instructions::interrupts::{are_enabled, disable, enable, without_interrupts as without};

/// Runs with interrupts off on the processor that was interrupted.
pub type Handler = fn();

/// Where events arrive in a cooperative guest.
pub const EVENT: u8 = 0x40;
/// The local APIC's timer.
pub const TIMER: u8 = 0x41;
/// First of 16 vectors by which processors call one another.
pub const IPI_FIRST: u8 = 0x50;
/// First of the vectors of channels.
pub const CHANNEL_FIRST: u8 = 0x60;
/// What the local APIC delivers when an interrupt went away; not to be acknowledged.
const SPURIOUS: u8 = 0xff;
const APIC_SOFTWARE_ENABLE: u32 = 1 << 8;

static HANDLERS: [Mutex<Option<Handler>>; 256] = [const { Mutex::new(None) }; 256];
static UNEXPECTED: AtomicU64 = AtomicU64::new(0);
/// The vector that comes from the 8259s; 0 = none does.
static LEGACY: AtomicU8 = AtomicU8::new(0);
static NMI: Mutex<Option<Handler>> = Mutex::new(None);

/// Makes `handler` take interrupts of `vector` (32 … 254) on every processor.
pub fn handle(vector: u8, handler: Handler) {
    without(|| {
        if let Some(slot) = HANDLERS.get(usize::from(vector)) {
            *slot.lock() = Some(handler);
        }
    });
}

/// As [`handle`], for a vector of the 8259s: the local APIC is not told when it is done.
pub(crate) fn handle_legacy(vector: u8, handler: Handler) {
    LEGACY.store(vector, Ordering::Relaxed);
    handle(vector, handler);
}

/// Makes `handler` take NMIs.
pub fn handle_nmi(handler: Handler) {
    without(|| *NMI.lock() = Some(handler));
}

/// Interrupts that came by vectors without a handler.
pub fn unexpected() -> u64 {
    UNEXPECTED.load(Ordering::Relaxed)
}

/// Masks the 8259s and switches the local APIC on, once for each processor.
pub(crate) fn start() {
    SafePort::PIC_1_MASK.write_u8(0xff);
    SafePort::PIC_2_MASK.write_u8(0xff);
    start_local();
}

pub(crate) fn start_local() {
    if platform::is_cooperative() {
        return;
    }
    lapic::enable(platform::has_x2apic());
    lapic::write(Register::SPURIOUS, u32::from(SPURIOUS) | APIC_SOFTWARE_ENABLE);
}

/// Called by the stub of each vector from 32 on.
pub(crate) fn dispatch(vector: u8) {
    if vector == EVENT && platform::is_cooperative() {
        event::take();
        return;
    }
    if vector == SPURIOUS {
        return;
    }
    let handler = HANDLERS.get(usize::from(vector)).and_then(|slot| *slot.lock());
    if vector != LEGACY.load(Ordering::Relaxed) {
        acknowledge();
    }
    match handler {
        Some(handler) => handler(),
        None => {
            UNEXPECTED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Tells the local APIC that the interrupt in service is done; without one, nothing happens. Before the handler runs, since gates keep IF clear and a
/// handler may end by waiting.
#[inline]
pub fn acknowledge() {
    if !platform::is_cooperative() {
        lapic::write(Register::EOI, 0);
    }
}

/// Whether somebody took the NMI.
pub(crate) fn nmi() -> bool {
    let handler = NMI.try_lock().and_then(|slot| *slot);
    handler.map(|handler| handler()).is_some()
}
