//! All processors of this guest at once: each starts, adds to a sum under a lock, is called, and answers.

use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_shim::lock::Lock;
use guest_kernel_shim::{Boot, clock, idle, ipi, println, smp};

const ROUNDS: u64 = 500;
const PATIENCE_NS: u64 = 20_000_000_000;
const CALL: Option<ipi::Line> = ipi::Line::new(3);

static SUM: Lock<u64> = Lock::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
static ANSWERS: AtomicU64 = AtomicU64::new(0);

/// Prints `#smp cpus=N sum=N·500 answers=N-1`.
pub fn run(_: &'static Boot) -> Result<(), &'static str> {
    let call = CALL.ok_or("no line")?;
    ipi::handle(call, answer);
    let count = smp::count();
    for index in 1..count {
        smp::start(index, work, 0).map_err(|_| "a processor did not start")?;
    }
    work(0);
    let until_ns = clock::now_ns() + PATIENCE_NS;
    let wait = |what: &AtomicU64, wanted: u64| {
        while what.load(Ordering::SeqCst) < wanted && clock::now_ns() < until_ns {
            idle::yield_if_wanted();
            ipi::relax();
        }
    };
    wait(&DONE, count as u64);
    for index in 1..count {
        ipi::send(index, call);
    }
    wait(&ANSWERS, count as u64 - 1);
    let (sum, answers) = (*SUM.lock(), ANSWERS.load(Ordering::SeqCst));
    println!("#smp cpus={count} sum={sum} answers={answers}");
    let right = sum == count as u64 * ROUNDS && answers == count as u64 - 1;
    right.then_some(()).ok_or("a sum or an answer is missing")
}

fn work(_: u64) {
    for _ in 0..ROUNDS {
        let mut sum = SUM.lock();
        let before = *sum;
        core::hint::black_box(());
        *sum = before + 1;
    }
    DONE.fetch_add(1, Ordering::SeqCst);
}

fn answer() {
    ANSWERS.fetch_add(1, Ordering::SeqCst);
}
