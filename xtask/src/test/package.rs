//! The crates that a guest links, as they would be published: packed, documented as docs.rs does it, and built with the oldest
//! versions of what they depend on.

use super::own;
use super::stage::Stage;
use super::tally::Tally;
use crate::failure::{Attempt, Failure, Outcome};
use crate::workspace;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The crates; each has its folder's name and the workspace's version, which is xtask's own.
const CRATES: [&str; 3] = ["pv-abi", "ring-buffers", "guest-kernel-shim"];
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the stage.
pub fn run(verbose: bool) -> Tally {
    let packed = pack().check(verbose);
    // Packages of an earlier run would answer for these.
    let oldest = if packed.failed == 0 { oldest(verbose) } else { own(Err(Failure::new("no packages"))) };
    packed + oldest + documentation().check(verbose)
}

/// A cargo command with a `-p` for each crate.
fn cargo(words: &[&str]) -> Stage {
    let chosen = CRATES.iter().flat_map(|name| ["-p", name]);
    Stage::cargo(&words.iter().copied().chain(chosen).collect::<Vec<_>>())
}

/// Packs all of them at once, since none of them is in the registry yet, and builds each from its package.
fn pack() -> Stage {
    cargo(&["package", "--allow-dirty"]).env("CARGO_TARGET_DIR", workspace::root().join("target"))
}

/// Documents them as docs.rs does.
fn documentation() -> Stage {
    cargo(&["doc", "--no-deps", "--lib"]).env("RUSTDOCFLAGS", "--cfg docsrs -Dwarnings")
}

/// Builds the packages with the lowest version of each dependency that their manifests allow.
fn oldest(verbose: bool) -> Tally {
    let folder = workspace::root().join("target/oldest");
    if let Err(failure) = unpack(&folder) {
        return own(Err(failure));
    }
    // The option is unstable, and does no more than choose versions: what builds is the stable compiler.
    let lock = Stage::cargo(&["generate-lockfile", "-Zdirect-minimal-versions"]).env("RUSTC_BOOTSTRAP", "1");
    let locked = lock.within(&folder).check(verbose);
    if locked.failed > 0 {
        return locked;
    }
    let build = Stage::cargo(&["check", "--workspace", "--locked"]).within(&folder);
    build.env("CARGO_TARGET_DIR", folder.join("target")).check(verbose)
}

/// Makes a workspace of the packages alone.
fn unpack(folder: &Path) -> Outcome<()> {
    fs::create_dir_all(folder).attempt(folder.display())?;
    for name in CRATES {
        let package = workspace::root().join(format!("target/package/{name}-{VERSION}.crate"));
        let status = Command::new("tar").arg("-xzf").arg(&package).arg("-C").arg(folder).status();
        if !status.attempt("tar")?.success() {
            return Err(Failure::new(format!("{}: not unpacked", package.display())));
        }
    }
    let file = folder.join("Cargo.toml");
    fs::write(&file, manifest()).attempt(file.display())
}

/// The manifest of that workspace: what one package needs of another is beside it, and not in the registry.
fn manifest() -> String {
    let members = CRATES.map(|name| format!("\"{name}-{VERSION}\"")).join(", ");
    let patches = CRATES.map(|name| format!("{name} = {{ path = \"{name}-{VERSION}\" }}\n")).concat();
    format!("[workspace]\nresolver = \"3\"\nmembers = [{members}]\n\n[patch.crates-io]\n{patches}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_of_packages_takes_none_of_them_from_the_registry() {
        let manifest: toml::Table = manifest().parse().unwrap();
        let members = manifest["workspace"]["members"].as_array().unwrap();
        for (name, member) in CRATES.iter().zip(members) {
            assert_eq!(&manifest["patch"]["crates-io"][name]["path"], member);
        }
        assert_eq!(members.len(), CRATES.len());
    }

    #[test]
    fn every_crate_has_the_version_under_which_its_package_is_looked_for() {
        for name in CRATES {
            let file = workspace::root().join(name).join("Cargo.toml");
            let manifest: toml::Table = fs::read_to_string(file).unwrap().parse().unwrap();
            assert_eq!(manifest["package"]["name"].as_str(), Some(name));
            assert_eq!(manifest["package"]["version"]["workspace"].as_bool(), Some(true), "{name}");
        }
    }
}
