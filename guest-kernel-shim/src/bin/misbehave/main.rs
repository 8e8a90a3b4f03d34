//! A hostile guest: it does what no guest should, says what it was answered, and goes on as long as it is let.
//!
//! `do=` on the command line names what: `calls`, `addresses`, `demand`, `ring`, `ports`, `msrs`, `instructions`, `control`, or
//! `all` of these. Each ends with `#ok NAME checks=N` or, before that, a `#bad` line for each answer that is not what
//! the ABI says. The tables below name the rest: what is done alone, and what should end the guest and nobody else.
#![no_std]
#![no_main]

mod apic;
mod calls;
mod check;
mod control;
mod debug;
mod demand;
mod ends;
mod events;
mod machine;
mod mmio;
mod priority;
mod queue;
mod raw;
mod remember;
mod ring;
mod state;
mod storms;
mod user;
mod virtio;
mod wide;

use check::Check;
use guest_kernel_shim::{Boot, entry, platform, println, shutdown};

entry!(main);

/// A way to misbehave that a guest survives.
type Deed = fn(&mut Check);
/// A way that it should not survive.
type End = fn(&Boot);

const DEEDS: &[(&str, Deed)] = &[
    ("calls", calls::unknown_and_out_of_range),
    ("addresses", calls::addresses),
    ("demand", demand::lies),
    ("ring", ring::corruption),
    ("ports", machine::ports),
    ("msrs", machine::msrs),
    ("instructions", machine::instructions),
    ("control", control::registers),
];

/// More of them, each only by its name: they last, or leave this machine in a bad way.
const ALONE: &[(&str, Deed)] = &[
    ("apic", apic::registers),
    ("cpuid", storms::cpuid),
    ("dead_processor", storms::dead_processor),
    ("debug", debug::exceptions),
    ("events", storms::events),
    ("every_msr", wide::every_msr),
    ("every_port", wide::every_port),
    ("flood", storms::flood),
    ("frames", virtio::frames),
    ("marks", storms::marks),
    ("mmio", mmio::registers),
    ("neighbours", storms::neighbours),
    ("nmi", events::nmi),
    ("pause", storms::pause),
    ("priority", events::priority),
    ("rare_debug", debug::rare_exceptions),
    ("reads", virtio::reads),
    ("section", storms::section),
    ("self_ipi", storms::self_ipi),
    ("speeches", virtio::speeches),
    ("single_steps", events::steps),
    ("steps", debug::steps),
    ("task", events::task),
    ("task_priority", priority::holds_back),
    ("timers", storms::timers),
    ("virtio", virtio::broken),
    ("wishes", virtio::wishes),
    ("yields", storms::yields),
];

/// Ways that should end this guest.
const ENDS: &[(&str, End)] = &[
    ("alignment", |_| user::misalign()),
    ("breakpoint", |_| debug::leave_a_breakpoint()),
    ("endless", |_| debug::endless()),
    ("loop", |_| ends::loop_for_ever()),
    ("triple", |_| ends::triple_fault()),
    ("hole", |_| ends::touch_a_hole()),
    ("readonly", |_| ends::write_a_read_only_table()),
    ("odd", mmio::touch_oddly),
    ("panic", |_| ends::panic()),
    ("remember", remember::crash),
    ("state", state::spoil),
    ("stopped", |_| ends::stop_all()),
    ("string", |_| ends::string_port()),
    ("touch", ends::touch),
    ("user", |_| user::call()),
];

fn main(boot: &'static Boot) {
    let wanted = boot.value("do").unwrap_or("all");
    println!("misbehave: do={wanted} mode={}", platform::mode().name());
    if let Some((name, end)) = ENDS.iter().find(|(name, _)| *name == wanted) {
        end(boot);
        println!("#bad {name}: still alive");
        shutdown::end(shutdown::Kind::CRASH);
    }
    let mut bad = 0;
    let mut known = false;
    let alone = ALONE.iter().filter(|(name, _)| wanted == *name);
    for (name, deed) in DEEDS.iter().filter(|(name, _)| wanted == "all" || wanted == *name).chain(alone) {
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
