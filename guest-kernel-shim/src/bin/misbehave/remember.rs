//! Looks for what an earlier life left in RAM, writes something there, and crashes.

use crate::{ends, raw};
use guest_kernel_shim::call::{self, Info};
use guest_kernel_shim::{Boot, platform, println, probe, shutdown};

/// Above this kernel's image and what the loader placed.
const FROM: u64 = 8 << 20;
const TO: u64 = 15 << 20;
const STEP: u64 = 4096 - 8;

/// Prints `#remember generation=N words=0`; without the word `once`, crashes then.
pub fn crash(boot: &Boot) {
    let mut words = 0;
    let mut at = FROM;
    while at < TO {
        words += u64::from(probe::load(at) != Ok(0));
        let _ = raw::store(at, 0x5555_aaaa_5555_aaaa);
        words += u64::from(probe::load(at) != Ok(0x5555_aaaa_5555_aaaa)) << 32;
        at += STEP;
    }
    println!("#remember generation={} words={words}", call::info(Info::GENERATION).unwrap_or(0));
    if !boot.has("once") && platform::is_cooperative() {
        shutdown::end(shutdown::Kind::CRASH);
    } else if !boot.has("once") {
        // A PC's own way would be a triple fault, which Bochs does not survive under SVM.
        ends::touch_a_hole();
    }
    shutdown::end(shutdown::Kind::OFF);
}
