//! Says in which of its lives it is, and ends that.

use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_shim::call::{self, Info};
use guest_kernel_shim::{Boot, clock, println, shutdown};

static BEFORE: AtomicU64 = AtomicU64::new(0);

/// Prints `#life generation=N before=0`. Ends by `end=off`, `reboot` or `crash`; with `lives=N`, off once it was started
/// N times; with `until_ms=`, off when the machine has run for so long.
pub fn run(boot: &'static Boot) -> Result<(), &'static str> {
    let generation = call::info(Info::GENERATION).unwrap_or(0);
    println!("#life generation={generation} before={}", BEFORE.swap(1, Ordering::SeqCst));
    let over = |key, now| boot.number(key).is_some_and(|end| now >= end);
    if over("lives", generation + 1) || over("until_ms", clock::now_ns() / 1_000_000) {
        return Ok(());
    }
    match boot.value("end") {
        Some("reboot") => shutdown::end(shutdown::Kind::REBOOT),
        Some("crash") => shutdown::end(shutdown::Kind::CRASH),
        _ => Ok(()),
    }
}
