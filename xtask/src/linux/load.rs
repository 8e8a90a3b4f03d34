//! Building `tests/linux/load.rs` and what it names: no crate, no C library, so that nothing needs to be installed for it.

use crate::failure::{Attempt, Failure, Outcome};
use crate::{setup, workspace};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Any compiler for a PC under Linux has this target's core library.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the program into a folder and returns its path.
pub fn build(folder: &Path) -> Outcome<PathBuf> {
    let (compiler, linker) = setup::toolchain()?;
    let program = folder.join("load");
    let mut rustc = Command::new(&compiler.rustc);
    rustc.current_dir(workspace::root()).args(["--edition=2024", "--crate-type=bin", "--target", TARGET]);
    rustc.args(["-Copt-level=3", "-Cpanic=abort", "-Cstrip=symbols", "-Ctarget-feature=+crt-static"]);
    rustc.args(linker.rustflags()).arg("-o").arg(&program).arg("tests/linux/load.rs");
    if rustc.status().attempt(compiler.rustc.display())?.success() {
        Ok(program)
    } else {
        Err(Failure::new("tests/linux/load.rs: not built, see above"))
    }
}
