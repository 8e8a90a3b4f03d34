//! Debian's QEMU, unpacked beside an installed package that it breaks.
//!
//! Backports' qemu-utils and the release's qemu-system-common exclude one another. QEMU looks for its firmware from where its
//! program lies, so the packages work unpacked; only their libraries are installed.

use super::{apt, install};
use crate::failure::{Attempt, Failure, Outcome};
use runner::machine::QEMU;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the packages are unpacked.
const PLACE: &str = "/usr/local/lib/comity-qemu";
const PACKAGES: [&str; 5] =
    ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios", "ipxe-qemu"];

/// Fetches and unpacks QEMU, and puts its program where shells look for it.
pub fn qemu() -> Outcome<()> {
    eprintln!("setup: {QEMU} is unpacked into {PLACE}, since apt-get would remove a package for it");
    let archives = Path::new(PLACE).join("archives");
    fs::create_dir_all(&archives).attempt(archives.display())?;
    fetch(&archives)?;
    let mut libraries = Vec::new();
    for deb in debs(&archives)? {
        ask(Command::new("dpkg").arg("-x").arg(&deb).arg(PLACE))?;
        let depends = ask(Command::new("dpkg-deb").arg("--field").arg(&deb).arg("Depends"))?;
        libraries.extend(names(&depends).map(str::to_owned));
    }
    libraries.sort_unstable();
    libraries.dedup();
    apt(&install("--yes", &libraries.iter().map(String::as_str).collect::<Vec<_>>()))?;
    link()
}

/// Has apt-get fetch the packages, as a user that may write here.
fn fetch(archives: &Path) -> Outcome<()> {
    let words = ["-o", "APT::Sandbox::User=root", "-qq", "download"];
    ask(Command::new("apt-get").args(words).args(PACKAGES).current_dir(archives)).map(drop)
}

fn debs(archives: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(archives).attempt(archives.display())?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|ending| ending == "deb")).collect())
}

/// The packages that a Depends field asks for and that are not unpacked here.
fn names(depends: &str) -> impl Iterator<Item = &str> {
    let first = depends.split(',').filter_map(|entry| entry.split(['|', '(', ':']).next());
    first.map(str::trim).filter(|name| !name.is_empty() && !PACKAGES.contains(name))
}

fn link() -> Outcome<()> {
    let program = Path::new(PLACE).join("usr/bin").join(QEMU);
    let shown = Path::new("/usr/local/bin").join(QEMU);
    symlink(program, &shown).attempt(shown.display())
}

/// What a command printed.
fn ask(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().attempt(&name)?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(format!("{name}: {}", why.lines().last().unwrap_or("failed"))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_needs_is_installed_and_what_is_unpacked_is_not() {
        let depends = "libaio1 (>= 0.3.93), libgcc-s1:any | libgcc1, qemu-system-common (= 1:7.2), seabios\n";
        assert_eq!(names(depends).collect::<Vec<_>>(), ["libaio1", "libgcc-s1"]);
    }
}
