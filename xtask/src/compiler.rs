//! Finding a compiler that builds for the bare machine, in the order of PLATFORM §1.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target of everything that boots.
pub const TARGET: &str = "x86_64-unknown-none";
/// Debian's compiler, beside which the package rust-web-src puts the library's source.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Where the core library comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// The compiler's sysroot holds it for the target.
    Prebuilt,
    /// It is built from rust-src by `-Zbuild-std`.
    FromSource,
}

/// A compiler that can do it.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The program.
    pub rustc: OsString,
    /// Its sysroot.
    pub sysroot: PathBuf,
    /// How it gets the core library.
    pub library: Library,
}

impl Compiler {
    /// Returns the first compiler that works, or `None`.
    pub fn find() -> Option<Self> {
        if let Some(chosen) = env::var_os("COMITY_RUSTC") {
            return Self::probe(&chosen, Library::Prebuilt)
                .or_else(|| Self::probe(&chosen, Library::FromSource));
        }
        let active = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        Self::probe(&active, Library::Prebuilt)
            .or_else(|| Self::probe(&active, Library::FromSource))
            .or_else(|| Self::probe(OsStr::new(DEBIAN_RUSTC), Library::FromSource))
    }

    fn probe(rustc: &OsStr, library: Library) -> Option<Self> {
        let sysroot = PathBuf::from(ask(rustc, &["--print", "sysroot"])?);
        let present = match library {
            Library::Prebuilt => {
                let folder = ask(rustc, &["--print", "target-libdir", "--target", TARGET])?;
                holds_core(Path::new(&folder))
            }
            Library::FromSource => sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file(),
        };
        present.then(|| Self { rustc: rustc.into(), sysroot, library })
    }

    /// The folder under `target/` that artefacts of this kind of compiler have to themselves.
    pub fn target_folder(&self) -> &'static str {
        match self.library {
            Library::Prebuilt => "bare-prebuilt",
            Library::FromSource => "bare-std",
        }
    }

    /// One line for `doctor`.
    pub fn describe(&self) -> String {
        let version = ask(&self.rustc, &["--version"]).unwrap_or_default();
        let library = match self.library {
            Library::Prebuilt => "prebuilt core",
            Library::FromSource => "core from source",
        };
        format!("{} ({version}), {library}", self.rustc.to_string_lossy())
    }
}

/// Runs a compiler for one line of answer.
fn ask(rustc: &OsStr, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(rustc).args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

/// Whether a folder of libraries has a compiled libcore.
fn holds_core(folder: &Path) -> bool {
    let Ok(entries) = folder.read_dir() else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_no_compiler_is_passed_over() {
        for library in [Library::Prebuilt, Library::FromSource] {
            assert!(Compiler::probe(OsStr::new("/bin/true"), library).is_none(), "{library:?}");
            assert!(Compiler::probe(OsStr::new("/nonexistent/rustc"), library).is_none(), "{library:?}");
        }
    }
}
