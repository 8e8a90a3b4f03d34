//! Events: 64 bits for each processor, which other processors, peers of channels and the hypervisor set.
//!
//! A processor takes its events at the event vector, or after [`crate::call::block`]; either way the handler runs with
//! interrupts off.
//!
//! ```
//! use guest_kernel_shim::event;
//!
//! event::set_own(7);
//! assert!(event::is_pending());
//! event::take(); // runs the handler of event 7, if it has one
//! assert!(!event::is_pending());
//!
//! // This kernel has one processor: there is no processor 1 to send to.
//! assert!(!event::send(1, 7));
//! ```

use crate::arch::{cpu, percpu};
use crate::{call, demand, interrupt};
use core::sync::atomic::Ordering;
use pv_abi::event::{bit, word};
use pv_abi::protocol::wake::{self, Kick};
use pv_abi::status;
use spin::Mutex;

/// A handler runs with interrupts off, on the processor that the event was sent to.
pub type Handler = fn();

/// The event mask: this kernel masks none.
const NOTHING_MASKED: u64 = 0;

static HANDLERS: [Mutex<Option<Handler>>; 64] = [const { Mutex::new(None) }; 64];

/// Registers the handler of event `event` (0 … 63) on every processor.
pub fn handle(event: u8, handler: Handler) {
    interrupt::without(|| {
        if let Some(slot) = HANDLERS.get(usize::from(event)) {
            *slot.lock() = Some(handler);
        }
    });
}

/// Registers [`take`] as the handler of [`interrupt::EVENT`], in a cooperative guest.
pub(crate) fn start() {
    interrupt::handle(interrupt::EVENT, take);
}

/// Takes this processor's pending events and runs their handlers. The caller has interrupts off.
#[inline]
pub fn take() {
    run(wake::take(&percpu::this().event().0[word::PENDING], NOTHING_MASKED));
}

/// Runs the handlers of the events in `pending`.
fn run(mut pending: u64) {
    while pending != 0 {
        let event = pending.trailing_zeros() as usize;
        pending &= pending - 1;
        let handler = HANDLERS.get(event).and_then(|slot| *slot.lock());
        if let Some(handler) = handler {
            handler();
        }
    }
}

/// Sets an event on this processor. The next [`take`] handles it; otherwise the hypervisor raises the event vector once
/// it has seen the event and interrupts are on.
#[inline]
pub fn set_own(event: u8) {
    percpu::this().event().0[word::PENDING].fetch_or(bit(event), Ordering::SeqCst);
}

/// Whether an event is pending on this processor.
#[inline]
pub fn is_pending() -> bool {
    percpu::this().event().0[word::PENDING].load(Ordering::Relaxed) != 0
}

/// Sets an event on another processor of this guest, and kicks the processor unless it will check its events anyway.
/// Returns whether there is such a processor.
pub fn send(cpu: usize, event: u8) -> bool {
    let Some(target) = percpu::of(cpu).filter(|_| cpu < percpu::count()) else { return false };
    let (row, status) = (target.demand(), target.status());
    let kick = wake::send(
        &target.event().0[word::PENDING],
        &row.0[pv_abi::demand::word::STATE],
        &status.0[status::word::DISPATCH_SEQ],
        bit(event),
    );
    match kick {
        Kick::Needed => {
            call::kick(cpu);
        }
        Kick::NotNeeded => {}
    }
    true
}

/// Calls `poll` until it returns a value, and handles events in between, so senders need not kick this processor. The
/// caller has interrupts on. Meant for waits that are shorter than a vCPU switch.
pub fn poll_until<T>(mut poll: impl FnMut() -> Option<T>) -> T {
    let row = &percpu::this().demand().0[pv_abi::demand::word::STATE];
    demand::note_polling(true);
    wake::start_polling(row);
    let answer = loop {
        if let Some(answer) = poll() {
            break answer;
        }
        interrupt::without(take);
        call::yield_if_wanted();
        cpu::pause();
    };
    interrupt::without(|| {
        demand::note_polling(false);
        run(wake::stop_polling(row, &percpu::this().event().0[word::PENDING], NOTHING_MASKED));
    });
    answer
}
