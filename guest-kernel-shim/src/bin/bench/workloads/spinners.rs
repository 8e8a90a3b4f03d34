//! Computes on all processors of this kernel, with nothing but a look at the clock now and then, in a window that all guests
//! of a machine have at the same time: `at_ms` on the clock that they share, `window_ms`. Says how many rounds were done, well
//! after the window. `mark` marks it.

use super::{BEGIN, END, spin, window_ticks};
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_shim::{Boot, clock, mark, println, smp};

/// From the window's end to the first word about it: nobody's window is disturbed, if it ends a little later.
const PARTING_NS: u64 = 50_000_000;
/// Rounds between two looks at the clock.
const PIECE: u64 = 100_000;

static FROM: AtomicU64 = AtomicU64::new(0);
static UNTIL: AtomicU64 = AtomicU64::new(0);
static PIECES: AtomicU64 = AtomicU64::new(0);
static READY: AtomicU64 = AtomicU64::new(0);

/// Computes in the window.
pub fn run(boot: &'static Boot) {
    let now = clock::ticks();
    let ahead_ns =
        boot.number("at_ms").unwrap_or(500).saturating_mul(1_000_000).saturating_sub(clock::now_ns());
    let from = now + clock::ticks_from_ns(ahead_ns);
    FROM.store(from, Ordering::SeqCst);
    UNTIL.store(from + window_ticks(boot), Ordering::SeqCst);
    for index in 1..smp::count() {
        if let Err(why) = smp::start(index, |_| compute(), 0) {
            println!("#bad vCPU {index} did not start: {why:?}");
            return;
        }
    }
    if clock::ticks() > from {
        println!("#bad the window began before all were ready");
        return;
    }
    while clock::ticks() < from {}
    let marks = boot.has("mark");
    if marks {
        mark::mark(BEGIN, 0);
    }
    compute();
    if marks {
        mark::mark(END, 0);
    }
    // The others are at their last piece.
    while READY.load(Ordering::SeqCst) < smp::count() as u64 {}
    let quiet = UNTIL.load(Ordering::SeqCst) + clock::ticks_from_ns(PARTING_NS);
    while clock::ticks() < quiet {}
    println!("#value rounds={}", PIECES.load(Ordering::SeqCst) * PIECE);
}

fn compute() {
    let (from, until) = (FROM.load(Ordering::SeqCst), UNTIL.load(Ordering::SeqCst));
    while clock::ticks() < from {}
    let mut pieces = 0;
    while clock::ticks() < until {
        spin::spin(PIECE);
        pieces += 1;
    }
    PIECES.fetch_add(pieces, Ordering::SeqCst);
    READY.fetch_add(1, Ordering::SeqCst);
}
