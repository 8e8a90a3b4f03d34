//! Waiting without using the CPU.
//!
//! ```no_run
//! use core::sync::atomic::{AtomicBool, Ordering};
//! use guest_kernel_shim::idle;
//!
//! static DONE: AtomicBool = AtomicBool::new(false);
//!
//! // An interrupt's or event's handler sets DONE; until then the CPU is somebody else's.
//! idle::wait_until(|| DONE.load(Ordering::Relaxed));
//!
//! for _ in 0..1_000_000 {
//!     core::hint::black_box(()); // a piece of work
//!     idle::yield_if_wanted();
//! }
//! ```

pub use crate::call::yield_if_wanted;

use crate::arch::cpu;
use crate::{call, console, deadline, demand, event, interrupt, platform};

/// Waits until `ready` returns true. Calls it with interrupts off, first at once and then after every interrupt or
/// event. Returns with interrupts on.
pub fn wait_until(mut ready: impl FnMut() -> bool) {
    loop {
        interrupt::disable();
        deadline::before_idling();
        if ready() {
            interrupt::enable();
            return;
        }
        wait_once();
    }
}

/// Waits for one interrupt or event and handles it. The caller has interrupts off; they are on afterwards.
fn wait_once() {
    if platform::is_cooperative() {
        if !event::is_pending() {
            console::shared::flush();
            demand::set_idle(true);
            call::block(u64::MAX);
            demand::set_idle(false);
        }
        event::take();
        interrupt::enable();
    } else {
        cpu::enable_and_halt();
    }
}
