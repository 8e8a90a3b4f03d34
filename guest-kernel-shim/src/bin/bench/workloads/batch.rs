//! Batch work: computes. With `window_ms` it measures a window of itself; with `run_ms` it is there for others. With
//! `turn_us` it asks for turns of that length.

use super::{BEGIN, END, spin, warm_up, window_ticks};
use guest_kernel_shim::pv_abi::demand::Request;
use guest_kernel_shim::{Boot, clock, demand, mark, println};

/// A piece of work between two looks at the clock, in ns.
const PIECE_NS: u64 = 100_000;

/// Computes for as long as the command line says.
pub fn run(boot: &'static Boot) {
    if let Some(turn_us) = boot.number("turn_us") {
        let budget_ns = u32::try_from(turn_us.saturating_mul(1000)).unwrap_or(u32::MAX);
        demand::set_request(Request { budget_ns, period_us: 0 });
    }
    let rounds = spin::rounds_worth(boot, PIECE_NS);
    if let Some(ms) = boot.number("run_ms") {
        compute(clock::ticks_from_ns(ms.saturating_mul(1_000_000)), rounds);
        return;
    }
    warm_up(boot);
    mark::mark(BEGIN, 0);
    let pieces = compute(window_ticks(boot), rounds);
    mark::mark(END, 0);
    println!("#value pieces={pieces}");
}

/// Computes until `ticks` have passed; answers how many pieces it did.
fn compute(ticks: u64, rounds: u64) -> u64 {
    let until = clock::ticks().saturating_add(ticks);
    let mut pieces = 0;
    while clock::ticks() < until {
        spin::spin(rounds);
        pieces += 1;
    }
    pieces
}
