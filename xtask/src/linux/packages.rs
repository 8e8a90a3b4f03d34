//! Debian's packages, taken apart and never installed. Fetching one needs no root; a `.deb` that lies in the cache already,
//! whoever put it there, is taken as it is.

use crate::failure::{Attempt, Failure, Outcome};
use crate::{setup, workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Debian's name for whichever kernel its cloud images boot now.
const KERNEL: &str = "linux-image-cloud-amd64";
/// Beginning of the names of packages with a kernel.
const KERNEL_PREFIX: &str = "linux-image-";

/// A package that is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// The kernel with its modules.
    Kernel,
    /// A shell and everything around it, linked statically.
    Busybox,
}

impl Package {
    /// What to ask for; the kernel's depends on the day.
    fn name(self) -> Outcome<String> {
        match self {
            Self::Kernel => {
                let said = ask(Command::new("apt-cache").args(["depends", KERNEL]))?;
                real_kernel(&said).ok_or_else(|| Failure::new(format!("{KERNEL}: apt knows no such package")))
            }
            Self::Busybox => Ok("busybox-static".to_owned()),
        }
    }

    /// What its files are called.
    fn pattern(self) -> &'static str {
        match self {
            Self::Kernel => "linux-image-VERSION-cloud-amd64_*.deb",
            Self::Busybox => "busybox-static_*.deb",
        }
    }

    /// Whether a file of that name is it.
    fn is(self, file: &str) -> bool {
        let (package, rest) = file.split_once('_').unwrap_or((file, ""));
        rest.ends_with(".deb")
            && match self {
                Self::Kernel => is_real_kernel(package),
                Self::Busybox => package == "busybox-static",
            }
    }
}

/// Whether a package holds a cloud kernel, and does not only name one.
fn is_real_kernel(package: &str) -> bool {
    package.strip_prefix(KERNEL_PREFIX).is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_digit()) && rest.ends_with("-cloud-amd64")
    })
}

/// Finds the kernel in what `apt-cache depends` says of the package that only names it.
fn real_kernel(depends: &str) -> Option<String> {
    let named = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    named.map(str::trim).find(|package| is_real_kernel(package)).map(str::to_owned)
}

/// Returns the folder that holds what is in the package, after fetching it if need be.
pub fn unpacked(package: Package, cache: &Path) -> Outcome<PathBuf> {
    fs::create_dir_all(cache).attempt(cache.display())?;
    let deb = match cached(package, cache)? {
        Some(deb) => deb,
        None => fetch(package, cache)?,
    };
    let folder = deb.with_extension("");
    if folder.is_dir() {
        return Ok(folder);
    }
    // Whole, or not there: an interrupted run leaves nothing that looks finished.
    let staged = deb.with_extension("new");
    if staged.is_dir() {
        fs::remove_dir_all(&staged).attempt(staged.display())?;
    }
    ask(Command::new("dpkg").arg("-x").arg(&deb).arg(&staged))?;
    fs::rename(&staged, &folder).attempt(folder.display())?;
    Ok(folder)
}

/// The package's file in the cache; the last by name when there are several.
fn cached(package: Package, cache: &Path) -> Outcome<Option<PathBuf>> {
    let mut found = None;
    for entry in cache.read_dir().attempt(cache.display())? {
        let path = entry.attempt(cache.display())?.path();
        let matches = path.file_name().is_some_and(|name| package.is(&name.to_string_lossy()));
        if matches && found.as_ref().is_none_or(|other| *other < path) {
            found = Some(path);
        }
    }
    Ok(found)
}

/// Downloads a package into the cache, with fresh lists when the old ones do not lead to it and we may renew them.
fn fetch(package: Package, cache: &Path) -> Outcome<PathBuf> {
    let by_hand = || format!("put Debian's {} into {}", package.pattern(), cache.display());
    if workspace::in_path("apt-get").is_none() {
        return Err(Failure::new(format!("no apt-get here: {}", by_hand())));
    }
    let download = || {
        let name = package.name()?;
        eprintln!("linux: apt-get download {name}");
        ask(Command::new("apt-get").args(["download", "-qq", &name]).current_dir(cache))
    };
    if let Err(failure) = download() {
        if !setup::may_install() {
            let said = failure.message;
            return Err(Failure::new(format!("{said}: type `sudo apt-get update`, or {}", by_hand())));
        }
        setup::apt(&["update"])?;
        download()?;
    }
    cached(package, cache)?.ok_or_else(|| Failure::new(format!("apt-get left no {}", package.pattern())))
}

/// Runs a tool for what it prints; its last complaint is the failure.
fn ask(command: &mut Command) -> Outcome<String> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output().attempt(&tool)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let complaint = said.lines().rev().find(|line| line.starts_with("E: ")).or(said.lines().next_back());
    Err(Failure::new(format!("{tool}: {}", complaint.unwrap_or("failed and printed nothing"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_that_only_names_a_kernel_leads_to_the_real_one() {
        let said = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Suggests: x\n";
        assert_eq!(real_kernel(said).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(real_kernel("linux-image-cloud-amd64\n  Depends: linux-base\n"), None);
    }

    #[test]
    fn a_package_is_known_by_its_file() {
        let kernel = "linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb";
        let busybox = "busybox-static_1%3a1.35.0-4+deb12u1+b1_amd64.deb";
        let cases = [
            (kernel, true, false),
            (busybox, false, true),
            ("linux-image-cloud-amd64_6.1.192-2_amd64.deb", false, false),
            ("linux-image-6.1.0-56-amd64_6.1.192-2_amd64.deb", false, false),
            ("linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64", false, false),
            ("busybox_1.35.0_amd64.deb", false, false),
        ];
        for (file, is_kernel, is_busybox) in cases {
            assert_eq!(
                (Package::Kernel.is(file), Package::Busybox.is(file)),
                (is_kernel, is_busybox),
                "{file}"
            );
        }
    }

    #[test]
    fn what_a_tool_complains_of_is_the_failure() {
        let failure = ask(Command::new("sh").args(["-c", "echo 'E: one' >&2; echo 'W: two' >&2; exit 1"]));
        assert_eq!(failure.err().map(|failure| failure.message).as_deref(), Some("sh: E: one"));
    }

    #[test]
    fn a_file_that_lies_in_the_cache_is_taken() {
        let cache = tempfile::TempDir::new().unwrap();
        let found = || cached(Package::Busybox, cache.path()).ok().flatten();
        assert_eq!(found(), None);
        for name in ["busybox-static_2_amd64.deb", "busybox-static_1_amd64.deb", "other_1_amd64.deb"] {
            fs::write(cache.path().join(name), b"").unwrap();
        }
        assert_eq!(found(), Some(cache.path().join("busybox-static_2_amd64.deb")));
    }
}
