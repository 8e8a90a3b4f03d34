//! Windows in which nothing should have to exit.

use guest_kernel_shim::{Boot, clock, mark, timer};

const BEGIN: u32 = 1;
const END: u32 = 2;
const SETTLE_NS: u64 = 20_000_000;

fn window_ns(boot: &Boot) -> u64 {
    boot.number("for_ms").unwrap_or(1000).saturating_mul(1_000_000)
}

/// Marks, sleeps for `for_ms=`, marks.
pub fn idle(boot: &'static Boot) -> Result<(), &'static str> {
    mark::mark(BEGIN, 0);
    timer::sleep_ns(window_ns(boot));
    mark::mark(END, 0);
    Ok(())
}

/// Marks, computes for `for_ms=`, marks.
pub fn lone(boot: &'static Boot) -> Result<(), &'static str> {
    // What was printed so far is on a slow line still.
    timer::sleep_ns(SETTLE_NS);
    let begin = clock::now_ns();
    mark::mark(BEGIN, 0);
    while clock::now_ns() - begin < window_ns(boot) {
        core::hint::black_box(());
    }
    mark::mark(END, 0);
    Ok(())
}
