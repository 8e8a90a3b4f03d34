//! The guest that is measured, the same image bare, full and cooperative. The command line says what to do:
//! `bench=WORKLOAD` and the workload's own words.
//!
//! Output for programs is in lines that begin with `#`: `#figure NAME unit=U min=M median=D runs=N operations=N` (the last:
//! how many ran between the figure's marks, measured or not), `#value NAME=N …`, `#skip NAME WHY`, `#bad WHY`, and
//! `#done WORKLOAD` at the end.
#![no_std]
#![no_main]

mod figure;
mod micro;
mod workloads;

use guest_kernel_shim::{Boot, clock, entry, platform, println, shutdown, smp};

entry!(main);

/// A part of the benchmark.
type Workload = fn(&'static Boot);

/// Every workload by its name on the command line.
const WORKLOADS: &[(&str, Workload)] = &[
    ("micro", micro::run),
    ("server", workloads::server::run),
    ("batch", workloads::batch::run),
    ("locks", workloads::locks::run),
    ("idle", workloads::idle::run),
    ("tick", workloads::tick::run),
    ("pipe", workloads::pipe::run),
    ("phases", workloads::phases::run),
    ("spinners", workloads::spinners::run),
];

fn main(boot: &'static Boot) {
    let name = boot.value("bench").unwrap_or("micro");
    println!(
        "bench: {name} mode={} cpus={} tsc_khz={}",
        platform::mode().name(),
        smp::count(),
        clock::tsc_khz()
    );
    match WORKLOADS.iter().find(|(known, _)| *known == name) {
        Some((_, workload)) => workload(boot),
        None => {
            println!("#bad bench={name} is no workload");
            shutdown::end(shutdown::Kind::CRASH);
        }
    }
    println!("#done {name}");
}
