//! What the clock says, for somebody with another one: a line every [`PERIOD_NS`], for `for_ms` milliseconds.

use guest_kernel_shim::{Boot, clock, println, timer};

const PERIOD_NS: u64 = 50_000_000;

pub fn run(boot: &'static Boot) -> Result<(), &'static str> {
    let for_ms = boot.number("for_ms").ok_or("for_ms= is missing")?;
    let end_ns = clock::now_ns().saturating_add(for_ms.saturating_mul(1_000_000));
    while clock::now_ns() < end_ns {
        println!("#clock ns={}", clock::now_ns());
        timer::sleep_ns(PERIOD_NS);
    }
    Ok(())
}
