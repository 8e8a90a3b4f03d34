//! What one vCPU does alone.

use crate::figure::{RUNS, Samples};
use guest_kernel_shim::call::{self, Info};
use guest_kernel_shim::platform::{Mode, mode};
use guest_kernel_shim::{Boot, event, interrupt, ipi, probe};

/// An event that nobody handles.
const NOBODYS_EVENT: u8 = 40;

/// From one guest instruction over the cheapest call to the next.
pub fn null_call(_: &'static Boot) -> Result<Samples, &'static str> {
    if mode() != Mode::Cooperative {
        return Err("no calls in this mode");
    }
    Ok(Samples::measure(RUNS, || {
        let _ = call::info(Info::VERSION);
    }))
}

/// CPUID, leaf 1.
pub fn cpuid(_: &'static Boot) -> Result<Samples, &'static str> {
    Ok(Samples::measure(RUNS, || {
        core::hint::black_box(probe::cpuid(1, 0).eax);
    }))
}

/// Acknowledging an interrupt; a cooperative guest takes an event instead.
pub fn eoi(_: &'static Boot) -> Result<Samples, &'static str> {
    interrupt::disable();
    let samples = if mode() == Mode::Cooperative {
        Samples::measure(RUNS, || {
            event::set_own(NOBODYS_EVENT);
            event::take();
        })
    } else {
        Samples::measure(RUNS, interrupt::acknowledge)
    };
    interrupt::enable();
    Ok(samples)
}

/// Giving the CPU away while nobody wants it: the call, or PAUSE.
pub fn yield_alone(_: &'static Boot) -> Result<Samples, &'static str> {
    Ok(match mode() {
        Mode::Cooperative => Samples::measure(RUNS, || {
            call::yield_now();
        }),
        Mode::Full | Mode::Bare => Samples::measure(RUNS, ipi::relax),
    })
}
