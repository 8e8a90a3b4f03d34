//! What several vCPUs of one guest do to one another.

use super::crew::{self, Order};
use super::runnable;
use crate::figure::{RUNS, Samples, overhead};
use guest_kernel_shim::platform::{Mode, mode};
use guest_kernel_shim::{Boot, call, clock, smp};

const ONE_ONLY: &str = "needs two vCPUs";
/// Round trips before the first sample.
const WARM_UP: usize = 4;

/// One way of a ping-pong between two vCPUs that both block: wake, switch and going on.
pub fn block_wake(_: &'static Boot) -> Result<Samples, &'static str> {
    let empty = overhead();
    pings(Order::Idle, |begin, _, end| (end - begin).saturating_sub(empty) / 2)
}

/// From sending to the handler of a vCPU that is halted or blocked.
pub fn ipi_halted(_: &'static Boot) -> Result<Samples, &'static str> {
    pings(Order::Idle, |begin, taken, _| taken.saturating_sub(begin))
}

/// From sending to the handler of a vCPU that computes; the sender idles afterwards.
pub fn ipi_running(_: &'static Boot) -> Result<Samples, &'static str> {
    pings(Order::Spin, |begin, taken, _| taken.saturating_sub(begin))
}

fn pings(order: Order, value: impl Fn(u64, u64, u64) -> u64) -> Result<Samples, &'static str> {
    if smp::count() < 2 {
        return Err(ONE_ONLY);
    }
    crew::order(order)?;
    let mut samples = Samples::new();
    for run in 0..RUNS + WARM_UP {
        let (begin, taken, end) = crew::ping();
        // There and back.
        samples.did(2);
        if run >= WARM_UP {
            samples.add(value(begin, taken, end));
        }
    }
    crew::order(Order::Idle)?;
    Ok(samples)
}

/// From one vCPU to the next, while all of them only yield: the time of one turn by the switches in it.
pub fn yield_switch(boot: &'static Boot) -> Result<Samples, &'static str> {
    if mode() != Mode::Cooperative {
        return Err("no yield in this mode");
    }
    if runnable(boot) < 2 {
        return Err(ONE_ONLY);
    }
    crew::order(Order::Yield)?;
    let guests = boot.number("guests").unwrap_or(1).max(1);
    let empty = overhead();
    let mut samples = Samples::new();
    for run in 0..RUNS + WARM_UP {
        let before = crew::switches();
        let begin = clock::ticks();
        call::yield_now();
        let end = clock::ticks();
        // Every vCPU that came back was switched to, and this one too; other guests do as this one does.
        let switches = (crew::switches() - before + 1).saturating_mul(guests);
        samples.did(switches);
        if run >= WARM_UP && (switches > guests || smp::count() == 1) {
            samples.add((end - begin).saturating_sub(empty) / switches);
        }
    }
    crew::order(Order::Idle)?;
    Ok(samples)
}
