//! `cargo xtask`: everything a developer or a user types. Each command is a module of its own.

mod bench;
mod build;
mod compiler;
mod doctor;
mod failure;
mod iso;
mod linker;
mod lint;
mod linux;
mod run;
mod setup;
mod show;
mod test;
mod workspace;

use clap::{Parser, Subcommand};
use failure::Outcome;
use std::process::ExitCode;

/// Comity's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the hypervisor and the guests for the bare machine, into target/images.
    Build(build::Arguments),
    /// Boots a scenario, or one kernel, and shows what its guests say.
    Run(run::Arguments),
    /// Measures the bench guest bare, full and cooperative, and writes target/bench/report.*.
    Bench(bench::Arguments),
    /// Fetches Debian's own kernel and makes an initial RAM disk for it, in target/images/linux.
    Linux,
    /// Makes a CD image of a scenario, which boots on a PC, in QEMU and in Bochs.
    Iso(iso::Arguments),
    /// Says what this machine can do, and what to type for what it cannot.
    Doctor,
    /// Runs every check and every test, in stages.
    Test(test::Arguments),
    /// Checks the rules of the house that the compiler cannot see.
    Lint,
    /// Installs what is missing, or prints what to type.
    Setup,
}

fn run(command: &Command) -> Outcome<()> {
    match command {
        Command::Build(arguments) => build::run(arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Linux => linux::run(),
        Command::Iso(arguments) => iso::run(arguments),
        Command::Doctor => doctor::run(),
        Command::Test(arguments) => test::run(arguments),
        Command::Lint => lint::run(),
        Command::Setup => setup::run(),
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("error: {}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}
