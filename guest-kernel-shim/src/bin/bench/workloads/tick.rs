//! A timer at 1 kHz, on its grid, beside work (`work=1`) or idling, and how late its handler runs.

use super::{BEGIN, END, rank, spin, warm_up, window_ticks};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use guest_kernel_shim::{Boot, clock, demand, idle, mark, println, timer};

/// Time from tick to tick.
const PERIOD_NS: u64 = 1_000_000;
/// A piece of work between two looks at the clock.
const PIECE_NS: u64 = 10_000;

static LATE_NS: [AtomicU32; rank::MOST] = [const { AtomicU32::new(0) }; rank::MOST];
static TICKS: AtomicUsize = AtomicUsize::new(0);
static DUE_TSC: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicBool = AtomicBool::new(false);

/// Ticks through the window.
pub fn run(boot: &'static Boot) {
    let works = boot.number("work").is_some_and(|work| work != 0);
    let rounds = spin::rounds_in_ns(PIECE_NS);
    // Whoever must be on time wants short turns and early ones.
    demand::set_latency_class(3);
    warm_up(boot);
    mark::mark(BEGIN, 0);
    let until = clock::ticks().saturating_add(window_ticks(boot));
    DUE_TSC.store(clock::ticks() + clock::ticks_from_ns(PERIOD_NS), Ordering::Relaxed);
    let _ = timer::at(DUE_TSC.load(Ordering::Relaxed), tick, 0); // the only timer, so that there is room
    if works {
        while clock::ticks() < until {
            spin::spin(rounds);
        }
    } else {
        idle::wait_until(|| clock::ticks() >= until);
    }
    STOP.store(true, Ordering::Relaxed);
    mark::mark(END, 0);
    let ticks = TICKS.load(Ordering::Relaxed);
    println!("#value ticks={ticks}");
    rank::print("late", &LATE_NS, ticks);
}

fn tick(_: u64) {
    let due = DUE_TSC.load(Ordering::Relaxed);
    let late_ns = clock::ns_from_ticks(clock::ticks().saturating_sub(due));
    let number = TICKS.fetch_add(1, Ordering::Relaxed);
    if let Some(slot) = LATE_NS.get(number) {
        slot.store(u32::try_from(late_ns).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
    let next = due + clock::ticks_from_ns(PERIOD_NS);
    DUE_TSC.store(next, Ordering::Relaxed);
    if !STOP.load(Ordering::Relaxed) {
        let _ = timer::at(next, tick, 0); // as above
    }
}
