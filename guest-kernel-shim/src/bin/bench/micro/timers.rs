//! The kernel's timer queue above the mode's hardware: moving the earliest deadline, and taking it.

use crate::figure::{RUNS, Samples};
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_shim::{Boot, clock, timer};

/// How far ahead the deadline that is moved lies.
const AHEAD_NS: u64 = 1_000_000_000;
/// How far it is moved.
const STEP_NS: u64 = 100_000;
/// How far ahead the deadline that is taken lies.
const EXPIRY_AHEAD_NS: u64 = 50_000;

/// When the handler of [`expiry`] ran; 0 = not yet.
static TAKEN_TSC: AtomicU64 = AtomicU64::new(0);

/// The earliest timer moves away.
pub fn rearm_later(_: &'static Boot) -> Result<Samples, &'static str> {
    rearm(|start, step| start + step)
}

/// The earliest timer comes nearer.
pub fn rearm_earlier(_: &'static Boot) -> Result<Samples, &'static str> {
    rearm(|start, step| start - step)
}

fn rearm(moved: impl Fn(u64, u64) -> u64) -> Result<Samples, &'static str> {
    let start = clock::ticks() + clock::ticks_from_ns(AHEAD_NS);
    let step_ticks = clock::ticks_from_ns(STEP_NS);
    let id = timer::at(start, |_| (), 0).ok_or("the timer queue is full")?;
    let mut step = 0;
    let samples = Samples::measure(RUNS, || {
        step += step_ticks;
        timer::rearm(id, moved(start, step));
    });
    if timer::cancel(id) { Ok(samples) } else { Err("the timer fired meanwhile") }
}

/// From the TSC value that was set to the first RDTSC of the handler, while this vCPU computes.
pub fn expiry(_: &'static Boot) -> Result<Samples, &'static str> {
    let mut samples = Samples::new();
    for _ in 0..RUNS {
        TAKEN_TSC.store(0, Ordering::Relaxed);
        let at_tsc = clock::ticks() + clock::ticks_from_ns(EXPIRY_AHEAD_NS);
        timer::at(at_tsc, |_| TAKEN_TSC.store(clock::ticks(), Ordering::Relaxed), 0)
            .ok_or("the timer queue is full")?;
        while TAKEN_TSC.load(Ordering::Relaxed) == 0 {
            core::hint::black_box(());
        }
        samples.did(1);
        samples.add(TAKEN_TSC.load(Ordering::Relaxed).saturating_sub(at_tsc));
    }
    Ok(samples)
}
