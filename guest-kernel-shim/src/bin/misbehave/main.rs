//! A hostile guest: it does what no guest should, says what it was answered, and goes on as long as it is let.
//!
//! `do=` on the command line names what: `calls`, `addresses`, `demand`, `ring`, `ports`, `msrs`, `instructions`, or
//! `all` of these. Each ends with `#ok NAME checks=N` or, before that, a `#bad` line for each answer that is not what
//! the ABI says. Five more should end the guest, not the machine: `loop`, `triple`, `hole`, `readonly`, `panic`.
#![no_std]
#![no_main]

mod calls;
mod check;
mod demand;
mod ends;
mod machine;
mod raw;
mod ring;

use check::Check;
use guest_kernel_shim::{Boot, entry, platform, println, shutdown};

entry!(main);

/// A way to misbehave that a guest survives.
type Deed = fn(&mut Check);

const DEEDS: &[(&str, Deed)] = &[
    ("calls", calls::unknown_and_out_of_range),
    ("addresses", calls::addresses),
    ("demand", demand::lies),
    ("ring", ring::corruption),
    ("ports", machine::ports),
    ("msrs", machine::msrs),
    ("instructions", machine::instructions),
];

/// Ways that should end this guest.
const ENDS: &[(&str, fn())] = &[
    ("loop", ends::loop_for_ever),
    ("triple", ends::triple_fault),
    ("hole", ends::touch_a_hole),
    ("readonly", ends::write_a_read_only_table),
    ("panic", ends::panic),
];

fn main(boot: &'static Boot) {
    let wanted = boot.value("do").unwrap_or("all");
    println!("misbehave: do={wanted} mode={}", platform::mode().name());
    if let Some((name, end)) = ENDS.iter().find(|(name, _)| *name == wanted) {
        end();
        println!("#bad {name}: still alive");
        shutdown::end(shutdown::Kind::CRASH);
    }
    let mut bad = 0;
    let mut known = false;
    for (name, deed) in DEEDS.iter().filter(|(name, _)| wanted == "all" || wanted == *name) {
        known = true;
        let mut check = Check::new(name);
        deed(&mut check);
        bad += check.finish();
    }
    if bad != 0 || !known {
        println!("#bad misbehave: {bad} answers were wrong, do={wanted} known={known}");
        shutdown::end(shutdown::Kind::CRASH);
    }
    println!("#ok misbehave");
}
