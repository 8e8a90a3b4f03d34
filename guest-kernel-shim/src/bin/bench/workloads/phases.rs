//! Guests that have each other's processor busy by turns, on the clock that they share: `keeps=0` computes in even phases of
//! `phase_us`, `keeps=1` in odd ones. One without `keeps` works a little in the middle of each phase, wherever it is idle then,
//! and marks its window of `window_ms`.

use super::{BEGIN, END, warm_up, window_ticks};
use guest_kernel_shim::{Boot, clock, idle, mark, println, timer};

/// What the one in the middle works, as a part of a phase.
const WORK: u64 = 16;

/// Keeps time.
pub fn run(boot: &'static Boot) {
    let phase = clock::ticks_from_ns(boot.number("phase_us").unwrap_or(4000).saturating_mul(1000)).max(WORK);
    if let Some(parity) = boot.number("keeps") {
        let until = clock::ticks().saturating_add(window_ticks(boot));
        while clock::ticks() < until {
            let this = clock::ticks() / phase;
            if this % 2 == parity % 2 {
                compute_until((this + 1) * phase);
            } else {
                timer::sleep_until((this + 1) * phase);
            }
        }
        return;
    }
    warm_up(boot);
    mark::mark(BEGIN, 0);
    let until = clock::ticks().saturating_add(window_ticks(boot));
    let mut pieces = 0_u64;
    while clock::ticks() < until {
        timer::sleep_until((clock::ticks() / phase + 1) * phase + phase / 2);
        compute_until(clock::ticks() + phase / WORK);
        pieces += 1;
    }
    mark::mark(END, 0);
    println!("#value pieces={pieces}");
}

fn compute_until(at_tsc: u64) {
    while clock::ticks() < at_tsc {
        idle::yield_if_wanted();
    }
}
