//! Workloads: what guests do all day, in windows that two marks bound. Every parameter is a word of the command line, and
//! the scenarios in `tests/scenarios/bench` fix them all.
//!
//! `#value NAME=N …` says what was done in the window; the marks' counters say what it cost.

pub mod batch;
mod chance;
pub mod idle;
pub mod locks;
pub mod phases;
pub mod pipe;
mod rank;
pub mod server;
mod spin;
pub mod spinners;
pub mod tick;

use guest_kernel_shim::{Boot, clock, timer};

/// Mark that begins the window.
const BEGIN: u32 = 1;
/// Mark that ends it.
const END: u32 = 2;

/// The length of the window, in ticks.
fn window_ticks(boot: &Boot) -> u64 {
    clock::ticks_from_ns(boot.number("window_ms").unwrap_or(1000).saturating_mul(1_000_000))
}

/// Waits until the others are up: `warm_ms`.
fn warm_up(boot: &Boot) {
    timer::sleep_ns(boot.number("warm_ms").unwrap_or(0).saturating_mul(1_000_000));
}
