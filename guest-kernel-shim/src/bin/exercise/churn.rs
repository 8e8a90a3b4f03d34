//! All processors of this guest wake one another without end: each calls the next, sleeps until that has answered, sleeps on
//! a timer now and then, and adds under a lock. A wake that is lost is seen: the guest hangs.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use guest_kernel_shim::lock::Lock;
use guest_kernel_shim::{Boot, idle, ipi, println, shutdown, smp, timer};

const MAX: usize = 64;
const CALL: Option<ipi::Line> = ipi::Line::new(4);
const ANSWER: Option<ipi::Line> = ipi::Line::new(5);
/// Rounds between two sleeps on a timer.
const SLEEP_EVERY: u64 = 8;

static ASKED: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
static ANSWERED: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
static SUM: Lock<u64> = Lock::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);
/// All processors have started: one that has not would not hear a call.
static ALL_HERE: AtomicBool = AtomicBool::new(false);
/// What is done keeps its processor busy.
static SPIN: AtomicBool = AtomicBool::new(false);

/// `rounds=`; prints `#churn cpus=N sum=N·rounds`. Then, by `then=`: nothing, `crash`, or `reboot`; `spin` keeps the other
/// processors busy meanwhile.
pub fn run(boot: &'static Boot) -> Result<(), &'static str> {
    let (call, answer) = CALL.zip(ANSWER).ok_or("no line")?;
    let rounds = boot.number("rounds").unwrap_or(100);
    SPIN.store(boot.has("spin"), SeqCst);
    ipi::handle(call, on_call);
    ipi::handle(answer, || {});
    let count = smp::count();
    for index in 1..count {
        smp::start(index, work, rounds).map_err(|_| "a processor did not start")?;
    }
    ALL_HERE.store(true, SeqCst);
    go_round(rounds);
    idle::wait_until(|| DONE.load(SeqCst) == count as u64);
    let sum = *SUM.lock();
    println!("#churn cpus={count} sum={sum}");
    if sum != count as u64 * rounds {
        return Err("a sum is wrong");
    }
    match boot.value("then") {
        Some("crash") => shutdown::end(shutdown::Kind::CRASH),
        Some("reboot") if boot.number("lives").is_none_or(|lives| generation() + 1 < lives) => {
            shutdown::end(shutdown::Kind::REBOOT)
        }
        _ => Ok(()),
    }
}

fn generation() -> u64 {
    use guest_kernel_shim::call::{self, Info};
    call::info(Info::GENERATION).unwrap_or(u64::MAX - 1)
}

fn work(rounds: u64) {
    while !ALL_HERE.load(SeqCst) {
        idle::yield_if_wanted();
        ipi::relax();
    }
    go_round(rounds);
    while SPIN.load(SeqCst) {
        core::hint::black_box(());
    }
}

fn go_round(rounds: u64) {
    let (me, count) = (smp::this(), smp::count());
    let Some(call) = CALL else { return };
    let next = (me + 1) % count;
    for round in 1..=rounds {
        if count > 1 {
            ASKED[next % MAX].store(round, SeqCst);
            ipi::send(next, call);
            idle::wait_until(|| ANSWERED[me % MAX].load(SeqCst) >= round);
        }
        if round % SLEEP_EVERY == 0 {
            timer::sleep_ns(20_000 + 1_000 * me as u64);
        }
        *SUM.lock() += 1;
    }
    DONE.fetch_add(1, SeqCst);
    if let Some(answer) = ANSWER {
        ipi::send(0, answer);
    }
}

/// The one before this asks: it is answered, once a round.
fn on_call() {
    let (me, count) = (smp::this(), smp::count());
    let before = (me + count - 1) % count;
    let asked = ASKED[me % MAX].load(SeqCst);
    if ANSWERED[before % MAX].swap(asked, SeqCst) != asked
        && let Some(answer) = ANSWER
    {
        ipi::send(before, answer);
    }
}
