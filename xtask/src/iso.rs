//! `cargo xtask iso`: a scenario as a CD image, for a PC, QEMU or Bochs.

use crate::failure::{Failure, Outcome};
use crate::{build, setup, workspace};
use runner::scenario::Scenario;
use runner::{images, iso};
use std::path::{Path, PathBuf};

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
    let refused = |refusal: runner::refusal::Refusal| Failure::new(refusal.to_string());
    let scenario = Scenario::load(&arguments.scenario).map_err(refused)?;
    setup::grub()?;
    if !arguments.no_build {
        build::all()?;
    }
    let to = arguments.output.clone().unwrap_or_else(|| usual(&arguments.scenario));
    let bundle = scenario.bundle().map_err(refused)?;
    iso::make(&images::hypervisor(), &bundle, &scenario.command_line(), &to)
        .map_err(|error| Failure::new(error.to_string()))?;
    println!("image: {}", to.display());
    Ok(())
}

/// Where a scenario's image goes: by its name without `.toml`, whatever dots are in the rest.
fn usual(scenario: &Path) -> PathBuf {
    let mut name = scenario.file_stem().unwrap_or_default().to_owned();
    name.push(".iso");
    workspace::root().join("target").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn each_scenario_of_a_folder_has_an_image_of_its_own() {
        let name = |scenario: &str| usual(Path::new(scenario)).file_name().map(OsStr::to_owned);
        assert_eq!(name("a/my.v1.toml").as_deref(), Some(OsStr::new("my.v1.iso")));
        assert_eq!(name("a/my.v2.toml").as_deref(), Some(OsStr::new("my.v2.iso")));
        assert_eq!(name("hello.toml").as_deref(), Some(OsStr::new("hello.iso")));
    }
}
