//! What a vCPU of a cooperative guest does first: it registers, and the first one places the tables.

use crate::arch::tables;
use crate::call::{self, Info};
use crate::{demand, event, interrupt, platform};
use core::sync::atomic::{AtomicU64, Ordering};

static KHZ: AtomicU64 = AtomicU64::new(0);
static MUL: AtomicU64 = AtomicU64::new(0);

/// Registers the first vCPU and places the tables. A refusal is said on the console, and the guest goes on with private
/// lines: everything works, nothing is saved.
pub(crate) fn start() {
    if !platform::is_cooperative() {
        return;
    }
    event::start();
    let result = call::register(interrupt::EVENT).map_err(|code| ("REGISTER", code)).and_then(|cookie| {
        let base = call::info(Info::WINDOW_BASE).map_err(|code| ("INFO", code))?;
        let pages = call::info(Info::WINDOW_PAGES).map_err(|code| ("INFO", code))?;
        let rate = tables::place(base, pages).map_err(|(_, code)| ("MAP", code))?;
        KHZ.store(rate.khz, Ordering::Relaxed);
        MUL.store(rate.mul, Ordering::Relaxed);
        demand::begin(cookie);
        Ok(())
    });
    if let Err((what, code)) = result {
        crate::println!("shim: {what} refused, code {}", code.0);
    }
}

/// Registers another vCPU; the tables are in place.
pub(crate) fn start_local() {
    if platform::is_cooperative() {
        match call::register(interrupt::EVENT) {
            Ok(cookie) => demand::begin(cookie),
            Err(code) => crate::println!("shim: REGISTER refused, code {}", code.0),
        }
    }
}

/// Rate of the TSC as the hypervisor gives it: kHz, and nanoseconds a tick with 32 bits behind the point.
pub(crate) fn rate() -> Option<(u64, u64)> {
    let (khz, mul) = (KHZ.load(Ordering::Relaxed), MUL.load(Ordering::Relaxed));
    (khz != 0 && mul != 0).then_some((khz, mul))
}
