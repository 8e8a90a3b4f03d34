//! Timers of each processor, and sleeping.
//!
//! ```no_run
//! use guest_kernel_shim::timer;
//!
//! let timer = timer::after_ns(5_000_000, |argument| assert_eq!(argument, 7), 7);
//! timer::sleep_ns(1_000_000); // the CPU is somebody else's meanwhile
//! if let Some(id) = timer {
//!     assert!(timer::cancel(id));
//! }
//! ```

pub use crate::deadline::{CAPACITY, Handler, Id, after_ns, at, cancel, rearm, take_when_idle};

use crate::arch::cpu;
use crate::{clock, deadline, event, idle, interrupt, println};

/// Idles until the TSC reaches `at_tsc`. Polls if there is no timer for it.
pub fn sleep_until(at_tsc: u64) {
    let timer = at(at_tsc, |_| (), 0);
    if timer.is_some() {
        idle::wait_until(|| clock::ticks() >= at_tsc);
    } else {
        while clock::ticks() < at_tsc {
            cpu::pause();
        }
    }
}

/// Idles for at least `ns` nanoseconds.
pub fn sleep_ns(ns: u64) {
    sleep_until(clock::ticks().saturating_add(clock::ticks_from_ns(ns)));
}

/// Sets up the timers of the first processor.
pub(crate) fn start() {
    interrupt::handle(interrupt::TIMER, deadline::expire);
    event::handle(pv_abi::event::TIMER, deadline::expire);
    start_local();
    if !deadline::is_watched() {
        println!("shim: no timers, since the hypervisor does not trust the TSC; who sleeps polls");
    }
}

/// Sets up the timers of another processor.
pub(crate) fn start_local() {
    deadline::start_local();
}
