//! The handlers of interrupts and NMIs: one for each vector. The code above registers them.

use super::lapic;
use super::platform;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use spin::Mutex;
use x86_64::instructions::interrupts::without_interrupts as without;

/// A handler runs with interrupts off, on the processor that was interrupted.
pub type Handler = fn();

/// The vector of NMIs.
const NMI: u8 = 2;

static HANDLERS: [Mutex<Option<Handler>>; 256] = [const { Mutex::new(None) }; 256];
static UNEXPECTED: AtomicU64 = AtomicU64::new(0);
/// The vector of the 8259s' interrupt; 0 = none.
static LEGACY: AtomicU8 = AtomicU8::new(0);

/// Registers the handler of interrupts of `vector` (32 … 254) on every processor.
pub fn handle(vector: u8, handler: Handler) {
    without(|| {
        if let Some(slot) = HANDLERS.get(usize::from(vector)) {
            *slot.lock() = Some(handler);
        }
    });
}

/// As [`handle`], for a vector of the 8259s, which takes no EOI at the local APIC.
pub(crate) fn handle_legacy(vector: u8, handler: Handler) {
    LEGACY.store(vector, Ordering::Relaxed);
    handle(vector, handler);
}

/// Registers the handler of NMIs.
pub fn handle_nmi(handler: Handler) {
    handle(NMI, handler);
}

/// How many interrupts arrived at vectors without a handler.
pub fn unexpected() -> u64 {
    UNEXPECTED.load(Ordering::Relaxed)
}

/// Runs the handler of an interrupt. The stubs of vectors 32 … 255 call this.
pub(super) fn dispatch(vector: u8) {
    if !platform::is_cooperative() && !acknowledged(vector) {
        return;
    }
    let handler = HANDLERS.get(usize::from(vector)).and_then(|slot| *slot.lock());
    match handler {
        Some(handler) => handler(),
        None => {
            UNEXPECTED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends the EOI that the vector needs. Returns `false` for a spurious interrupt.
#[inline]
fn acknowledged(vector: u8) -> bool {
    if vector == lapic::SPURIOUS_VECTOR {
        return false;
    }
    if vector != LEGACY.load(Ordering::Relaxed) {
        lapic::end_interrupt();
    }
    true
}

/// Sends the EOI of the interrupt in service; does nothing in a cooperative guest, whose interrupts take none. The EOI
/// precedes the handler: the gate keeps IF clear, and a handler may end by waiting.
#[inline]
pub fn acknowledge() {
    if !platform::is_cooperative() {
        lapic::end_interrupt();
    }
}

/// Runs the handler of NMIs and returns whether there is one. Does not wait for the slot: the NMI may have interrupted
/// its holder.
pub(super) fn nmi() -> bool {
    let slot = HANDLERS.get(usize::from(NMI));
    let handler = slot.and_then(Mutex::try_lock).and_then(|slot| *slot);
    handler.map(|handler| handler()).is_some()
}
