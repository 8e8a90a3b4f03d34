//! What interrupts and NMIs call: one handler for each vector, registered by the code above.

use super::lapic;
use super::platform;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use spin::Mutex;
use x86_64::instructions::interrupts::without_interrupts as without;

/// Runs with interrupts off on the processor that was interrupted.
pub type Handler = fn();

/// The vector of NMIs.
const NMI: u8 = 2;

static HANDLERS: [Mutex<Option<Handler>>; 256] = [const { Mutex::new(None) }; 256];
static UNEXPECTED: AtomicU64 = AtomicU64::new(0);
/// The vector that comes from the 8259s; 0 = none does.
static LEGACY: AtomicU8 = AtomicU8::new(0);

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
    handle(NMI, handler);
}

/// Interrupts that came by vectors without a handler.
pub fn unexpected() -> u64 {
    UNEXPECTED.load(Ordering::Relaxed)
}

/// Runs the handler of an interrupt. Called by the stub of each vector from 32 on.
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

/// Acknowledges an interrupt where its vector wants that; answers whether the interrupt is there at all.
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

/// Tells the local APIC that the interrupt in service is done; without one, nothing happens. Before the handler runs, since gates keep IF clear and a
/// handler may end by waiting.
#[inline]
pub fn acknowledge() {
    if !platform::is_cooperative() {
        lapic::end_interrupt();
    }
}

/// Runs the handler of NMIs and answers whether there is one. An NMI may come while its own slot is locked.
pub(super) fn nmi() -> bool {
    let slot = HANDLERS.get(usize::from(NMI));
    let handler = slot.and_then(Mutex::try_lock).and_then(|slot| *slot);
    handler.map(|handler| handler()).is_some()
}
