//! A guest that has nothing to do for `run_ms`.

use guest_kernel_shim::{Boot, timer};

/// Idles.
pub fn run(boot: &'static Boot) {
    timer::sleep_ns(boot.number("run_ms").unwrap_or(1000).saturating_mul(1_000_000));
}
