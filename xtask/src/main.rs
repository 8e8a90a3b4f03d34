//! `cargo xtask`: everything a developer or a user types. Each command is a module of its own.

mod build;
mod compiler;
mod failure;
mod linker;
mod setup;
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
    /// Installs what is missing, or prints what to type.
    Setup,
}

fn run(command: &Command) -> Outcome<()> {
    match command {
        Command::Build(arguments) => build::run(arguments),
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
