//! Computes on all processors until a moment on the clock that all guests of a machine share.

use guest_kernel_shim::{Boot, clock, mark, println, smp};

/// Marks before and after the window.
const BEGIN: u32 = 1;
const END: u32 = 2;

/// `until_ms=`; with `mark_ms=`, marks there and at the end; with `cpus=`, on so many processors.
pub fn run(boot: &'static Boot) -> Result<(), &'static str> {
    let ns = |key| boot.number(key).map(|ms| ms.saturating_mul(1_000_000));
    let until_ns = ns("until_ms").unwrap_or(0);
    for index in 1..smp::count() {
        smp::start(index, compute_until, until_ns).map_err(|_| "a processor did not start")?;
    }
    if let Some(begin_ns) = ns("mark_ms") {
        compute_until(begin_ns);
        mark::mark(BEGIN, 0);
        compute_until(until_ns);
        mark::mark(END, 0);
        // The others reach the end too, with this one still in the queue.
        compute_until(until_ns + until_ns / 8);
    } else {
        compute_until(until_ns + until_ns / 8);
    }
    println!("#busy until={}", clock::now_ns());
    Ok(())
}

fn compute_until(ns: u64) {
    while clock::now_ns() < ns {
        core::hint::black_box(());
    }
}
