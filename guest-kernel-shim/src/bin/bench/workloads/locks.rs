//! Critical sections: every vCPU takes one lock, works inside it, frees it and thinks.
//!
//! `section_ns=N`, `think_ns=N`, `window_ms`, `warm_ms`. The marks' values count the sections completed.

use super::chance::Chance;
use super::{BEGIN, END, spin, warm_up, window_ticks};
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_shim::lock::Lock;
use guest_kernel_shim::pv_abi::MAX_VCPUS;
use guest_kernel_shim::{Boot, clock, critical, interrupt, mark, println, smp};

/// A section that took this much longer than it should was interrupted by others' turns, which last 100 µs at least.
const PREEMPTED_NS: u64 = 50_000;

/// One vCPU's counts, on a cache line of its own.
#[repr(align(64))]
struct Counts {
    completed: AtomicU64,
    preempted: AtomicU64,
    rounds: AtomicU64,
}

impl Counts {
    const fn none() -> Self {
        Self { completed: AtomicU64::new(0), preempted: AtomicU64::new(0), rounds: AtomicU64::new(0) }
    }
}

static COUNTS: [Counts; MAX_VCPUS] = [const { Counts::none() }; MAX_VCPUS];
static LOCK: Lock<()> = Lock::new(());
static SECTION_ROUNDS: AtomicU64 = AtomicU64::new(0);
static THINK_ROUNDS: AtomicU64 = AtomicU64::new(0);
static SECTION_NS: AtomicU64 = AtomicU64::new(0);
/// What the counting itself is worth; taken off the thinking.
static OVERHEAD_ROUNDS: AtomicU64 = AtomicU64::new(0);
/// 1 = the others stop.
static STOP: AtomicU64 = AtomicU64::new(0);

/// Runs the window on all vCPUs.
pub fn run(boot: &'static Boot) {
    let [section_ns, think_ns] = ["section_ns", "think_ns"].map(|key| boot.number(key).unwrap_or(2000));
    let rounds_in_ms = spin::rounds_worth(boot, 1_000_000);
    // Before there is anything to spin for.
    OVERHEAD_ROUNDS.store(overhead_rounds(rounds_in_ms), Ordering::Relaxed);
    COUNTS[0].completed.store(0, Ordering::Relaxed);
    SECTION_NS.store(section_ns, Ordering::Relaxed);
    SECTION_ROUNDS.store(section_ns * rounds_in_ms / 1_000_000, Ordering::Relaxed);
    THINK_ROUNDS.store(think_ns * rounds_in_ms / 1_000_000, Ordering::Relaxed);
    for index in 1..smp::count() {
        if let Err(why) = smp::start(index, |_| compete_until_stopped(), 0) {
            println!("#bad vCPU {index} did not start: {why:?}");
            return;
        }
    }
    warm_up(boot);
    let mut chance = Chance::new(0);
    let before = totals();
    mark::mark(BEGIN, low(before[0]));
    let until = clock::ticks().saturating_add(window_ticks(boot));
    while clock::ticks() < until {
        compete(&mut chance);
    }
    let after = totals();
    mark::mark(END, low(after[0]));
    STOP.store(1, Ordering::Relaxed);
    let [sections, preempted, rounds] = core::array::from_fn(|item| after[item] - before[item]);
    let useful_ns = u128::from(rounds) * 1_000_000 / u128::from(rounds_in_ms.max(1));
    println!("#value sections={sections} preempted={preempted} useful_ns={useful_ns}");
}

fn compete_until_stopped() {
    let mut chance = Chance::new(smp::this() as u64);
    while STOP.load(Ordering::Relaxed) == 0 {
        compete(&mut chance);
    }
}

/// One critical section, and thinking.
fn compete(chance: &mut Chance) {
    let section_ns = SECTION_NS.load(Ordering::Relaxed);
    critical::make_room(section_ns);
    let held = LOCK.lock();
    cycle(chance, section_ns, || drop(held));
}

/// What is done with the lock held, until `free`, and after it; all but the lock itself.
fn cycle(chance: &mut Chance, section_ns: u64, free: impl FnOnce()) {
    let counts = &COUNTS[smp::this()];
    let begin = clock::ticks();
    spin::spin(SECTION_ROUNDS.load(Ordering::Relaxed));
    let took_ns = clock::ns_from_ticks(clock::ticks() - begin);
    free();
    counts.rounds.fetch_add(SECTION_ROUNDS.load(Ordering::Relaxed), Ordering::Relaxed);
    if took_ns > section_ns + PREEMPTED_NS {
        counts.preempted.fetch_add(1, Ordering::Relaxed);
    }
    // Between half and three halves, so that turns and sections do not fall into step.
    let think = THINK_ROUNDS.load(Ordering::Relaxed);
    let think = think / 2 + (u64::from(chance.next()) * think >> 32);
    spin::spin(think.saturating_sub(OVERHEAD_ROUNDS.load(Ordering::Relaxed)));
    counts.completed.fetch_add(1, Ordering::Relaxed);
    counts.rounds.fetch_add(think, Ordering::Relaxed);
}

/// How many rounds of thinking the counting itself is worth: what [`cycle`] takes when it spins for nothing.
fn overhead_rounds(rounds_in_ms: u64) -> u64 {
    let mut chance = Chance::new(0);
    let empty = |_| {
        let begin = clock::ticks();
        cycle(&mut chance, u64::MAX / 2, || ());
        clock::ticks() - begin
    };
    let ticks = interrupt::without(|| (0..16).map(empty).min().unwrap_or(0));
    clock::ns_from_ticks(ticks) * rounds_in_ms / 1_000_000
}

/// Sections completed, sections in which the holder was off CPU, rounds spun inside and outside.
fn totals() -> [u64; 3] {
    let of: [fn(&Counts) -> &AtomicU64; 3] =
        [|counts| &counts.completed, |counts| &counts.preempted, |counts| &counts.rounds];
    of.map(|of| COUNTS.iter().map(|counts| of(counts).load(Ordering::Relaxed)).sum())
}

/// What a mark has room for; the window's difference fits.
#[expect(clippy::cast_possible_truncation, reason = "the host takes the difference of two")]
const fn low(count: u64) -> u32 {
    count as u32
}
