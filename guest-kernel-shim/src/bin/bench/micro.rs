//! Single operations, each in the natural way of the mode. `only=NAME` runs one of them, `guests=N` says how many guests
//! like this one yield (for `yield_switch`), `role=crew for_ms=N` makes this one of the others.

mod console;
mod crew;
mod memory;
mod processors;
mod ring;
mod single;
mod timers;

use crate::figure::Samples;
use guest_kernel_shim::{Boot, clock, mark, println, smp, timer};

/// Marks around figure `n`: this and `n`, with value 0 before and 1 after.
const MARK_FIRST: u32 = 0x100;

/// Takes the samples of one figure, or says why there are none in this mode.
type Figure = fn(&'static Boot) -> Result<Samples, &'static str>;

/// Every figure, in the order in which they run: first those that want this vCPU to be alone in its guest.
const FIGURES: &[(&str, Figure)] = &[
    ("null_call", single::null_call),
    ("cpuid", single::cpuid),
    ("eoi", single::eoi),
    ("yield_alone", single::yield_alone),
    ("console_64", console::console_64),
    ("timer_rearm_later", timers::rearm_later),
    ("timer_rearm_earlier", timers::rearm_earlier),
    ("timer_expiry", timers::expiry),
    ("ring_message", ring::message),
    ("block_wake", processors::block_wake),
    ("ipi_halted", processors::ipi_halted),
    ("ipi_running", processors::ipi_running),
    ("yield_switch", processors::yield_switch),
    ("shootdown_running", memory::running),
    ("shootdown_idle", memory::idle),
];

/// Runs the figures that the command line wants.
pub fn run(boot: &'static Boot) {
    if boot.value("role") == Some("crew") {
        return be_crew(boot);
    }
    if let Some(ms) = boot.number("warm_ms") {
        timer::sleep_ns(ms.saturating_mul(1_000_000));
    }
    for ((name, figure), id) in FIGURES.iter().zip(MARK_FIRST..) {
        if boot.value("only").is_some_and(|only| !only.split(',').any(|only| only == *name)) {
            continue;
        }
        mark::mark(id, 0);
        let result = figure(boot);
        mark::mark(id, 1);
        match result {
            Ok(mut samples) if *name == "yield_switch" => {
                samples.print(switch_name(runnable(boot)));
            }
            Ok(mut samples) => samples.print(name),
            Err(why) => println!("#skip {name} {why}"),
        }
    }
}

/// How many vCPUs yield, those of other guests included.
fn runnable(boot: &Boot) -> u64 {
    boot.number("guests").unwrap_or(1).max(1).saturating_mul(smp::count() as u64)
}

/// The names that the reports know.
fn switch_name(runnable: u64) -> &'static str {
    match runnable {
        2 => "yield_switch_2",
        16 => "yield_switch_16",
        256 => "yield_switch_256",
        _ => "yield_switch_n",
    }
}

/// Yields on every vCPU, for another guest's figure.
fn be_crew(boot: &'static Boot) {
    let for_ns = boot.number("for_ms").unwrap_or(1000).saturating_mul(1_000_000);
    let until = clock::now_ns().saturating_add(for_ns);
    if let Err(why) = crew::order(crew::Order::Yield) {
        println!("#bad crew: {why}");
    }
    while clock::now_ns() < until {
        guest_kernel_shim::call::yield_now();
    }
}
