//! Memory given back while another vCPU of the guest may have translations of it.

use super::crew::{self, Order};
use crate::figure::{Samples, overhead};
use guest_kernel_shim::memory::Blocks;
use guest_kernel_shim::{Boot, call, clock, smp, timer};

/// Where the blocks lie: above the image.
const FIRST: u64 = 8;
/// Blocks in a batch.
const BATCH: u64 = 4;
/// Taking them back clears them, which takes long.
const RUNS: usize = 40;
/// How long the crew may take to do as it is told.
const SETTLE_NS: u64 = 5_000_000;

/// From giving a batch back until it is gone, while the other vCPU computes.
pub fn running(boot: &'static Boot) -> Result<Samples, &'static str> {
    shootdowns(boot, Order::Spin)
}

/// The same while the other vCPU idles.
pub fn idle(boot: &'static Boot) -> Result<Samples, &'static str> {
    shootdowns(boot, Order::Idle)
}

fn shootdowns(boot: &Boot, order: Order) -> Result<Samples, &'static str> {
    if smp::count() < 2 {
        return Err("needs two vCPUs");
    }
    // Each figure has blocks of its own: a claim lasts.
    let first = FIRST + BATCH * order as u64;
    let mut blocks = Blocks::claim(boot, first, BATCH).ok_or("no blocks to give")?;
    crew::order(order)?;
    timer::sleep_ns(SETTLE_NS);
    let empty = overhead();
    let mut samples = Samples::new();
    for _ in 0..RUNS {
        let begin = clock::ticks();
        let Ok(absent) = blocks.give() else { return Err("no memory is given back in this mode") };
        while call::memory_pending() != Ok(0) {}
        samples.add((clock::ticks() - begin).saturating_sub(empty));
        samples.did(1);
        blocks = absent.take_all().map_err(|_| "the blocks do not come back")?;
    }
    crew::order(Order::Idle)?;
    Ok(samples)
}
