//! `cargo xtask setup`: makes sure that everything a build, a boot and the tests need is there.
//!
//! Installs Debian packages when it may; otherwise says what to type. Never calls rustup.

mod beside;

use crate::compiler::Compiler;
use crate::failure::{Attempt, Failure, Outcome};
use crate::linker::Linker;
use crate::workspace;
use runner::iso;
use runner::machine::{BOCHS, QEMU, UEFI};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Something that may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Compiler,
    Linker,
    Emulator,
    Grub,
    Bochs,
    Uefi,
}

impl Part {
    const ALL: [Self; 6] =
        [Self::Compiler, Self::Linker, Self::Emulator, Self::Grub, Self::Bochs, Self::Uefi];

    /// The Debian packages that bring it.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Compiler => &["rustc-web", "rust-web-src"],
            Self::Linker => &["lld"],
            Self::Emulator => &["qemu-system-x86"],
            Self::Grub => &["grub-common", "grub-pc-bin", "grub-efi-amd64-bin", "xorriso", "mtools"],
            Self::Uefi => &["ovmf"],
            // Any screen will do for the package; we use the one that `bochs` itself has.
            Self::Bochs => &["bochs", "bochs-term", "bochsbios", "vgabios"],
        }
    }

    fn is_present(self) -> bool {
        match self {
            Self::Compiler => Compiler::find().is_some(),
            Self::Linker => {
                workspace::in_path("ld.lld").is_some()
                    || Compiler::find().is_some_and(|compiler| Linker::find(&compiler).is_some())
            }
            Self::Emulator => workspace::in_path(QEMU).is_some(),
            Self::Grub => {
                let parts = ["/usr/lib/grub/i386-pc", "/usr/lib/grub/x86_64-efi"];
                [iso::GRUB, "xorriso", "mformat"].iter().all(|tool| workspace::in_path(tool).is_some())
                    && parts.iter().all(|part| Path::new(part).is_dir())
            }
            Self::Uefi => Path::new(UEFI).is_file(),
            Self::Bochs => workspace::in_path(BOCHS).is_some(),
        }
    }
}

/// Runs the command: what is missing is named, or installed, all at once.
pub fn run() -> Outcome<()> {
    provide(&Part::ALL)?;
    let (compiler, linker) = toolchain()?;
    println!("compiler: {}", compiler.describe());
    println!("linker: {}", linker.describe());
    println!("emulators: {QEMU}, {BOCHS}");
    println!("images: {}", iso::GRUB);
    Ok(())
}

/// Returns a compiler and a linker for the bare machine, after installing them if need be.
pub fn toolchain() -> Outcome<(Compiler, Linker)> {
    provide(&[Part::Compiler, Part::Linker])?;
    let compiler = Compiler::find().ok_or_else(|| Failure::new(instructions(&[Part::Compiler])))?;
    let linker = Linker::find(&compiler).ok_or_else(|| Failure::new(instructions(&[Part::Linker])))?;
    Ok((compiler, linker))
}

/// Makes sure that the emulator is there.
pub fn emulator() -> Outcome<()> {
    provide(&[Part::Emulator])
}

/// Makes sure that CD images can be made.
pub fn grub() -> Outcome<()> {
    provide(&[Part::Grub])
}

/// Makes sure that QEMU is there, and what it needs to boot from a CD, by BIOS or UEFI.
pub fn cd() -> Outcome<()> {
    provide(&[Part::Emulator, Part::Grub, Part::Uefi])
}

/// Makes sure that Bochs is there, and what makes images for it.
pub fn bochs() -> Outcome<()> {
    provide(&[Part::Grub, Part::Bochs])
}

/// Installs those of `parts` that are missing.
fn provide(parts: &[Part]) -> Outcome<()> {
    let missing: Vec<Part> = parts.iter().copied().filter(|part| !part.is_present()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !may_install() {
        return Err(Failure::new(instructions(&missing)));
    }
    let packages = packages(&missing);
    eprintln!("setup: apt-get install {}", packages.join(" "));
    apt(&["update"])?;
    let removed = would_remove(&packages)?;
    if removed.is_empty() {
        apt(&install("--yes", &packages))?;
    } else {
        provide_apart(&missing, &removed)?;
    }
    match missing.iter().find(|part| !part.is_present()) {
        Some(_) => Err(Failure::new(instructions(&missing))),
        None => Ok(()),
    }
}

/// Installs what is missing without the emulator, which is unpacked; where that removes a package too, nothing is done.
fn provide_apart(missing: &[Part], removed: &[String]) -> Outcome<()> {
    let others: Vec<Part> = missing.iter().copied().filter(|part| *part != Part::Emulator).collect();
    if others.len() == missing.len() || !would_remove(&packages(&others))?.is_empty() {
        return Err(Failure::new(conflict(missing, removed)));
    }
    apt(&install("--yes", &packages(&others)))?;
    beside::qemu()
}

fn packages(parts: &[Part]) -> Vec<&'static str> {
    parts.iter().flat_map(|part| part.packages()).copied().collect()
}

/// The packages that apt-get would remove to install these.
fn would_remove(packages: &[&str]) -> Outcome<Vec<String>> {
    let simulated =
        Command::new("apt-get").args(install("--simulate", packages)).output().attempt("apt-get")?;
    Ok(removals(&String::from_utf8_lossy(&simulated.stdout)).into_iter().map(str::to_owned).collect())
}

/// What apt-get is told: whatever it finds now, no package that is installed goes.
fn install<'a>(how: &'a str, packages: &[&'a str]) -> Vec<&'a str> {
    // A simulation is to say what would go, and refuses to with --no-remove.
    let keep = if how == "--simulate" { None } else { Some("--no-remove") };
    let words = ["install", how, "--no-install-recommends"];
    words.into_iter().chain(keep).chain(packages.iter().copied()).collect()
}

/// The packages that a simulated apt-get says it would remove.
fn removals(simulated: &str) -> Vec<&str> {
    let named = simulated.lines().filter_map(|line| line.strip_prefix("Remv "));
    named.filter_map(|rest| rest.split_whitespace().next()).collect()
}

/// Why nothing is installed, and what the user has to decide.
fn conflict(missing: &[Part], removed: &[String]) -> String {
    format!(
        "nothing is installed, since {} would have to be removed; {}",
        removed.join(" "),
        instructions(missing)
    )
}

/// Runs apt-get where we are root.
pub fn apt(arguments: &[&str]) -> Outcome<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .attempt("apt-get")?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("apt-get {} failed", arguments.join(" "))))
    }
}

/// Whether apt is here and we are root, as the kernel says.
pub fn may_install() -> bool {
    let root = fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t0\t")));
    root && Path::new("/usr/bin/apt-get").is_file()
}

/// What the user has to type for the missing parts.
fn instructions(missing: &[Part]) -> String {
    let apt = format!("sudo apt-get install {}", packages(missing).join(" "));
    if missing.contains(&Part::Compiler) {
        format!(
            "no compiler for {}: type `rustup target add {}` or `{apt}`",
            crate::compiler::TARGET,
            crate::compiler::TARGET
        )
    } else {
        format!("not installed: type `{apt}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_installed_is_never_removed() {
        assert!(install("--yes", &["lld"]).contains(&"--no-remove"));
        // Debian 12's apt-get, asked to simulate, with rustc-web wanted and rustc installed.
        let simulated = "The following packages will be REMOVED:\n  rustc rustup\nRemv rustc [1.63.0+dfsg1-2]\n\
                         Remv rustup [1.25] [rustc-web:amd64 ]\nInst rustc-web (1.96.0+dfsg1-1~deb12u2 Debian [amd64])\n";
        let removed = removals(simulated);
        assert_eq!(removed, ["rustc", "rustup"]);
        let removed: Vec<String> = removed.into_iter().map(str::to_owned).collect();
        let line = conflict(&[Part::Compiler], &removed);
        assert!(
            line.starts_with("nothing is installed, since rustc rustup would have to be removed; "),
            "{line}"
        );
        assert!(
            line.contains("rustup target add x86_64-unknown-none") && line.lines().count() == 1,
            "{line}"
        );
        assert!(
            removals("Inst lld (1:14.0-55 Debian [amd64])\nConf lld (1:14.0-55 Debian [amd64])\n").is_empty()
        );
    }

    #[test]
    fn what_is_missing_is_named_with_what_to_type() {
        let compiler = instructions(&[Part::Compiler, Part::Linker]);
        assert!(compiler.contains("rustup target add x86_64-unknown-none"), "{compiler}");
        assert!(compiler.contains("sudo apt-get install rustc-web rust-web-src lld"), "{compiler}");
        let emulator = instructions(&[Part::Emulator]);
        assert!(emulator.contains("sudo apt-get install qemu-system-x86"), "{emulator}");
        assert!(!emulator.contains("rustup"), "{emulator}");
    }
}
