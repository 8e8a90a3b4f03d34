//! What a cooperative guest sees of those who wait for its CPU, and of the time that it did not get.

use core::mem::offset_of;
use guest_kernel_shim::call::{self, Info, Stat};
use guest_kernel_shim::pv_abi::status::{Statistics, StatusFlags};
use guest_kernel_shim::pv_abi::{PAGE_BYTES, status, table};
use guest_kernel_shim::{Boot, clock, demand, idle, platform, println, probe};

/// Pages from the window's begin to where the shim places the status table.
const STATUS_AT: u64 = 2;

/// A word of this vCPU's statistics by its offset in bytes; only the first vCPU runs this.
fn statistic(offset: usize) -> u64 {
    let window = call::info(Info::WINDOW_BASE).unwrap_or(0);
    let row = window + STATUS_AT * PAGE_BYTES as u64 + table::STATUS_STATISTICS as u64;
    probe::load(row + offset as u64).unwrap_or(u64::MAX)
}

/// Computes for `for_ms=`; with the word `yields`, gives way whenever somebody waits. Prints how often it saw that, what it was told
/// of time lost, and how much it was told to have run, with `#waiters …`.
pub fn run(boot: &'static Boot) -> Result<(), &'static str> {
    if !platform::is_cooperative() {
        return Err("no status table in this mode");
    }
    let yields = boot.has("yields");
    let begin = clock::now_ns();
    let for_ns = boot.number("for_ms").unwrap_or(50) * 1_000_000;
    let window = call::info(Info::WINDOW_BASE).unwrap_or(0);
    let hot = window + STATUS_AT * PAGE_BYTES as u64 + table::STATUS_HOT as u64;
    let (mut seen, mut was_seen, mut longest_slice) = (0u64, false, 0u64);
    while clock::now_ns() - begin < for_ns {
        let wanted = demand::status_flags().contains(StatusFlags::YIELD_PLEASE);
        seen += u64::from(wanted && !was_seen);
        was_seen = wanted;
        let end = probe::load(hot + status::word::SLICE_END as u64 * 8).unwrap_or(0);
        if end != u64::MAX {
            longest_slice = longest_slice.max(end.saturating_sub(clock::ticks()));
        }
        if yields {
            idle::yield_if_wanted();
        }
    }
    let elapsed = clock::now_ns() - begin;
    // A switch-out publishes what was up to then.
    call::yield_now();
    let stat = |item| call::stats(item, 0).unwrap_or(u64::MAX);
    println!(
        "#waiters seen={seen} slice_ns={} elapsed_ns={elapsed} run_ns={} steal_ns={} published_steal_ns={} peers_ns={} lag_ns={} switches={}",
        clock::ns_from_ticks(longest_slice),
        stat(Stat::RUN_NS),
        stat(Stat::STEAL_NS),
        statistic(offset_of!(Statistics, steal_ns)),
        statistic(offset_of!(Statistics, steal_peers_ns)),
        statistic(offset_of!(Statistics, lag_ns)).cast_signed(),
        stat(Stat::SWITCHES),
    );
    Ok(())
}
