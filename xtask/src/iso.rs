//! `cargo xtask iso`: a scenario as a CD image, for a PC, QEMU or Bochs.

use crate::failure::{Failure, Outcome};
use crate::{build, setup, workspace};
use ::tests::scenario::Scenario;
use ::tests::{images, iso};
use std::path::PathBuf;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// A scenario: tests/scenarios/NAME.toml.
    scenario: PathBuf,
    /// Where the image goes; target/NAME.iso otherwise.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Takes the images as they are.
    #[arg(long)]
    no_build: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    let refused = |refusal: ::tests::refusal::Refusal| Failure::new(refusal.to_string());
    let scenario = Scenario::load(&arguments.scenario).map_err(refused)?;
    setup::grub()?;
    if !arguments.no_build {
        build::all()?;
    }
    let name = arguments.scenario.file_stem().unwrap_or_default();
    let usual = || workspace::root().join("target").join(name).with_extension("iso");
    let to = arguments.output.clone().unwrap_or_else(usual);
    let bundle = scenario.bundle().map_err(refused)?;
    iso::make(&images::hypervisor(), &bundle, &scenario.command_line(), &to)
        .map_err(|error| Failure::new(error.to_string()))?;
    println!("image: {}", to.display());
    Ok(())
}
