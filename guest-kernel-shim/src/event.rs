//! Events: 64 bits that other processors, peers of channels and the hypervisor set on a processor.
//!
//! Taken by the event vector, or by polling after [`crate::call::block`]; either way a handler runs with interrupts off.

use crate::arch::percpu::{self, PerCpu};
use crate::call;
use core::sync::atomic::{Ordering, fence};
use pv_abi::demand::{self, State};
use pv_abi::event::{bit, word};
use pv_abi::status;
use spin::Mutex;

/// Runs with interrupts off on the processor whose event it is.
pub type Handler = fn();

static HANDLERS: [Mutex<Option<Handler>>; 64] = [const { Mutex::new(None) }; 64];

/// Makes `handler` take event `event` (0 … 63) on every processor.
pub fn handle(event: u8, handler: Handler) {
    crate::interrupt::without(|| {
        if let Some(slot) = HANDLERS.get(usize::from(event)) {
            *slot.lock() = Some(handler);
        }
    });
}

/// Takes what is pending on this processor and runs the handlers. Called with interrupts off.
#[inline]
pub fn take() {
    let line = percpu::this().event();
    let mut pending = line.0[word::PENDING].swap(0, Ordering::SeqCst);
    while pending != 0 {
        let event = pending.trailing_zeros() as usize;
        pending &= pending - 1;
        let handler = HANDLERS.get(event).and_then(|slot| *slot.lock());
        if let Some(handler) = handler {
            handler();
        }
    }
}

/// Sets an event on this processor; it is taken at the next [`take`], or by the event vector once interrupts are on and
/// the hypervisor has looked.
#[inline]
pub fn set_own(event: u8) {
    percpu::this().event().0[word::PENDING].fetch_or(bit(event), Ordering::SeqCst);
}

/// Whether anything is pending on this processor.
#[inline]
pub fn is_pending() -> bool {
    percpu::this().event().0[word::PENDING].load(Ordering::Relaxed) != 0
}

/// Sets an event on another processor of this guest, and wakes it unless it will look by itself. Answers whether there
/// is such a processor.
pub fn send(cpu: usize, event: u8) -> bool {
    let Some(target) = percpu::of(cpu).filter(|_| cpu < crate::smp::count()) else { return false };
    target.event().0[word::PENDING].fetch_or(bit(event), Ordering::SeqCst);
    fence(Ordering::SeqCst);
    if !will_look(target) {
        call::kick(cpu);
    }
    true
}

/// Whether a processor is on CPU and polls, in this order of the ABI's wake protocol.
fn will_look(target: &'static PerCpu) -> bool {
    let polling = target.demand().0[demand::word::STATE].load(Ordering::SeqCst) & State::POLLING_BIT != 0;
    polling && target.status().0[status::word::DISPATCH_SEQ].load(Ordering::SeqCst) & 1 == 1
}
