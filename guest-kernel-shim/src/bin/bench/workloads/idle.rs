//! A guest whose processors, all of them, have nothing to do for `run_ms`.

use guest_kernel_shim::{Boot, println, smp, timer};

/// Idles.
pub fn run(boot: &'static Boot) {
    for index in 1..smp::count() {
        if let Err(why) = smp::start(index, |_| (), 0) {
            println!("#bad vCPU {index} did not start: {why:?}");
        }
    }
    timer::sleep_ns(boot.number("run_ms").unwrap_or(1000).saturating_mul(1_000_000));
}
