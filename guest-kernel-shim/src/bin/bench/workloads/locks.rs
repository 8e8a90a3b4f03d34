//! Critical sections: every vCPU takes one lock, works inside it, frees it and thinks.
//!
//! `section_ns=N`, `think_ns=N`, `window_ms`, `warm_ms`. The marks' values count the sections completed.

use super::{BEGIN, END, spin, warm_up, window_ticks};
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_shim::lock::Lock;
use guest_kernel_shim::pv_abi::MAX_VCPUS;
use guest_kernel_shim::{Boot, clock, critical, mark, println, smp};

/// A section that took this much longer than it should was interrupted by others' turns, which last 100 µs at least.
const PREEMPTED_NS: u64 = 50_000;

/// One vCPU's counts, on a cache line of its own.
#[repr(align(64))]
struct Counts {
    completed: AtomicU64,
    preempted: AtomicU64,
}

static COUNTS: [Counts; MAX_VCPUS] =
    [const { Counts { completed: AtomicU64::new(0), preempted: AtomicU64::new(0) } }; MAX_VCPUS];
static LOCK: Lock<()> = Lock::new(());
static SECTION_ROUNDS: AtomicU64 = AtomicU64::new(0);
static THINK_ROUNDS: AtomicU64 = AtomicU64::new(0);
static SECTION_NS: AtomicU64 = AtomicU64::new(0);
/// When the others stop; 0 = not yet.
static STOP_TSC: AtomicU64 = AtomicU64::new(0);

/// Runs the window on all vCPUs.
pub fn run(boot: &'static Boot) {
    let [section_ns, think_ns] = ["section_ns", "think_ns"].map(|key| boot.number(key).unwrap_or(2000));
    SECTION_NS.store(section_ns, Ordering::Relaxed);
    SECTION_ROUNDS.store(spin::rounds_in_ns(section_ns), Ordering::Relaxed);
    THINK_ROUNDS.store(spin::rounds_in_ns(think_ns), Ordering::Relaxed);
    for index in 1..smp::count() {
        if let Err(why) = smp::start(index, |_| compete_until_stopped(), 0) {
            println!("#bad vCPU {index} did not start: {why:?}");
            return;
        }
    }
    warm_up(boot);
    let (completed, preempted) = totals();
    mark::mark(BEGIN, low(completed));
    let until = clock::ticks().saturating_add(window_ticks(boot));
    while clock::ticks() < until {
        compete();
    }
    let (completed_after, preempted_after) = totals();
    mark::mark(END, low(completed_after));
    STOP_TSC.store(1, Ordering::Relaxed);
    println!(
        "#value sections={} preempted={} cycle_ns={}",
        completed_after - completed,
        preempted_after - preempted,
        section_ns + think_ns
    );
}

fn compete_until_stopped() {
    while STOP_TSC.load(Ordering::Relaxed) == 0 {
        compete();
    }
}

/// One critical section, and thinking.
fn compete() {
    let counts = &COUNTS[smp::this()];
    let section_ns = SECTION_NS.load(Ordering::Relaxed);
    critical::make_room(section_ns);
    let held = LOCK.lock();
    let begin = clock::ticks();
    spin::spin(SECTION_ROUNDS.load(Ordering::Relaxed));
    let took_ns = clock::ns_from_ticks(clock::ticks() - begin);
    drop(held);
    counts.completed.fetch_add(1, Ordering::Relaxed);
    if took_ns > section_ns + PREEMPTED_NS {
        counts.preempted.fetch_add(1, Ordering::Relaxed);
    }
    spin::spin(THINK_ROUNDS.load(Ordering::Relaxed));
}

/// Sections completed, and sections in which the holder was off CPU.
fn totals() -> (u64, u64) {
    let sum =
        |of: fn(&Counts) -> &AtomicU64| COUNTS.iter().map(|counts| of(counts).load(Ordering::Relaxed)).sum();
    (sum(|counts| &counts.completed), sum(|counts| &counts.preempted))
}

/// What a mark has room for; the window's difference fits.
#[expect(clippy::cast_possible_truncation, reason = "the host takes the difference of two")]
const fn low(count: u64) -> u32 {
    count as u32
}
