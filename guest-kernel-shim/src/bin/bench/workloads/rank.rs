//! Order statistics of many samples.

use core::sync::atomic::{AtomicU32, Ordering};
use guest_kernel_shim::println;
use spin::Mutex;

/// Most samples.
pub const MOST: usize = 1 << 16;

static SORTED: Mutex<[u32; MOST]> = Mutex::new([0; MOST]);

/// Prints `#value` with the median and the tail of the first `count` samples, in ns, under `what_p50_ns` and so on.
pub fn print(what: &str, samples: &[AtomicU32], count: usize) {
    let mut sorted = SORTED.lock();
    let Some(used) = sorted.get_mut(..count.min(samples.len())) else { return };
    for (slot, sample) in used.iter_mut().zip(samples) {
        *slot = sample.load(Ordering::Relaxed);
    }
    used.sort_unstable();
    let at = |per_mille: usize| {
        let place = (used.len() * per_mille).div_ceil(1000).saturating_sub(1);
        used.get(place).copied().unwrap_or(0)
    };
    println!(
        "#value {what}_p50_ns={} {what}_p99_ns={} {what}_p999_ns={} {what}_max_ns={}",
        at(500),
        at(990),
        at(999),
        at(1000)
    );
}
