//! A guest that behaves, for boot tests: `do=` on the command line names one exercise, and a line that begins with `#`
//! says what came of it. It ends well unless something was not as the ABI says.
#![no_std]
#![no_main]

mod busy;
mod channel;
mod churn;
mod clock;
mod life;
mod memory;
mod quiet;
mod smp;
mod victim;
mod waiters;

use guest_kernel_shim::{Boot, entry, platform, println, shutdown};

entry!(main);

/// Does what the command line says; what went wrong, if anything.
type Exercise = fn(&'static Boot) -> Result<(), &'static str>;

const EXERCISES: &[(&str, Exercise)] = &[
    ("busy", busy::run),
    ("channel", channel::run),
    ("abandoned", channel::abandoned),
    ("churn", churn::run),
    ("clock", clock::run),
    ("life", life::run),
    ("memory", memory::run),
    ("idle", quiet::idle),
    ("lone", quiet::lone),
    ("smp", smp::run),
    ("victim", victim::run),
    ("waiters", waiters::run),
];

fn main(boot: &'static Boot) {
    let wanted = boot.value("do").unwrap_or("");
    let exercise = EXERCISES.iter().find(|(name, _)| *name == wanted);
    let result = exercise.map_or(Err("no such exercise"), |(_, run)| run(boot));
    match result {
        Ok(()) => println!("#ok {wanted} mode={}", platform::mode().name()),
        Err(why) => {
            println!("#bad {wanted}: {why}");
            shutdown::end(shutdown::Kind::CRASH);
        }
    }
}
