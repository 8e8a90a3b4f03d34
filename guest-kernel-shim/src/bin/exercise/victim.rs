//! Wakes a thousand times a second, works 20 µs, and says how late it was.

use guest_kernel_shim::pv_abi::demand::Request;
use guest_kernel_shim::{Boot, clock, demand, interrupt, println, timer};

const PERIOD_NS: u64 = 1_000_000;
const WORK_NS: u64 = 20_000;
/// What it asks for at a time.
const BUDGET_NS: u32 = 100_000;
const MAX_WAKES: usize = 1000;

/// `wakes=` of them, from `begin_ms=` on by the clock of the machine. Prints `#victim wakes=N p50_ns= p99_ns= max_ns=`, from due to done.
pub fn run(boot: &'static Boot) -> Result<(), &'static str> {
    demand::set_request(Request { budget_ns: BUDGET_NS, period_us: 1000 });
    let wakes = boot.number("wakes").and_then(|wakes| usize::try_from(wakes).ok()).unwrap_or(100);
    let mut late = [0u64; MAX_WAKES];
    let late = late.get_mut(..wakes).ok_or("too many wakes")?;
    let period = clock::ticks_from_ns(PERIOD_NS);
    let begin = clock::ticks_at_ns(boot.number("begin_ms").unwrap_or(0) * 1_000_000);
    let mut due = begin.max(clock::ticks()) + period;
    for slot in late.iter_mut() {
        timer::sleep_until(due);
        let begin = clock::now_ns();
        while clock::now_ns() - begin < WORK_NS {
            core::hint::black_box(());
        }
        *slot = clock::ns_from_ticks(clock::ticks() - due);
        due += period;
    }
    late.sort_unstable();
    let at = |percent: usize| late.get(wakes.saturating_sub(1) * percent / 100).copied().unwrap_or(0);
    println!(
        "#victim wakes={wakes} p50_ns={} p99_ns={} max_ns={} unexpected={}",
        at(50),
        at(99),
        at(100),
        interrupt::unexpected()
    );
    Ok(())
}
