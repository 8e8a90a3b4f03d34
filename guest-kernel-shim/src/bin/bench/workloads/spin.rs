//! Work of a known length: a loop of two instructions a round.

use guest_kernel_shim::{Boot, clock, interrupt};

/// Rounds of the measurement.
const PROBE_ROUNDS: u64 = 50_000;

/// Computes for `rounds` rounds.
#[inline(never)]
pub fn spin(rounds: u64) {
    let mut left = rounds;
    while left != 0 {
        core::hint::black_box(());
        left -= 1;
    }
}

/// How many rounds are worth `ns` nanoseconds: as the command line says (`rounds_in_ms=N`), so that machines can be compared
/// whose clock is not to be trusted for that; else what is measured.
pub fn rounds_worth(boot: &Boot, ns: u64) -> u64 {
    boot.number("rounds_in_ms")
        .map_or_else(|| rounds_in_ns(ns), |rounds| rounds.saturating_mul(ns) / 1_000_000)
}

/// How many rounds take `ns` nanoseconds of CPU time, where nobody takes the CPU away: the best of some tries.
pub fn rounds_in_ns(ns: u64) -> u64 {
    let probe = |_| {
        let begin = clock::ticks();
        spin(PROBE_ROUNDS);
        clock::ticks() - begin
    };
    let ticks = interrupt::without(|| (0..8).map(probe).min().unwrap_or(1)).max(1);
    // To the nearest hundredth of a round: the two RDTSCs and the call are in the measurement.
    let hundredths = (ticks * 100 / PROBE_ROUNDS).max(1);
    clock::ticks_from_ns(ns) * 100 / hundredths
}
