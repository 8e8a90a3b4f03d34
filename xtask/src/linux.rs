//! `cargo xtask linux`: Debian's own kernel, and an initial RAM disk that tests and measures it, in target/images/linux.

mod cpio;
mod initrd;
mod load;
mod modules;
mod packages;

use crate::failure::{Attempt, Failure, Outcome};
use crate::workspace;
use packages::Package;
use runner::images::{linux_initrd, linux_kernel};
use std::fs;
use std::path::{Path, PathBuf};

/// What a Linux guest boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinuxImages {
    /// Debian's bzImage, as it is in the package.
    pub kernel: PathBuf,
    /// The initial RAM disk; `comity.do=` on the command line says what it does.
    pub initrd: PathBuf,
    /// What `uname -r` will say.
    pub release: String,
}

/// Runs the command.
pub fn run() -> Outcome<()> {
    let made = images()?;
    let root = workspace::root();
    for image in [&made.kernel, &made.initrd] {
        let bytes = image.metadata().attempt(image.display())?.len();
        println!("image: {} ({bytes} bytes)", image.strip_prefix(&root).unwrap_or(image).display());
    }
    println!("release: {}", made.release);
    Ok(())
}

/// Makes what Linux guests boot, from packages that are fetched once: `target/linux` keeps them.
pub fn images() -> Outcome<LinuxImages> {
    let cache = workspace::root().join("target/linux");
    let kernel = packages::unpacked(Package::Kernel, &cache)?;
    let busybox = packages::unpacked(Package::Busybox, &cache)?;
    let release = only_entry(&kernel.join("lib/modules"))?;
    let modules = kernel.join("lib/modules").join(&release);
    let parts = initrd::Parts {
        busybox: busybox.join("bin/busybox"),
        init: workspace::root().join("tests/linux/init"),
        load: load::build(&cache)?,
        modules: modules::in_load_order(&modules)?,
        apart: modules::apart(&modules)?,
    };
    let made = LinuxImages { kernel: linux_kernel(), initrd: linux_initrd(), release };
    let image = kernel.join("boot").join(format!("vmlinuz-{}", made.release));
    publish(&fs::read(&image).attempt(image.display())?, &made.kernel)?;
    publish(&initrd::archive(&parts)?, &made.initrd)?;
    Ok(made)
}

/// The name of the one thing in a folder.
fn only_entry(folder: &Path) -> Outcome<String> {
    let mut names = Vec::new();
    for entry in folder.read_dir().attempt(folder.display())? {
        names.push(entry.attempt(folder.display())?.file_name().to_string_lossy().into_owned());
    }
    match &mut names[..] {
        [name] => Ok(std::mem::take(name)),
        other => {
            Err(Failure::new(format!("{}: {} kernels in it, expected 1", folder.display(), other.len())))
        }
    }
}

/// Writes an image in one step: a machine may be starting from the old one. What is right already is left alone.
fn publish(bytes: &[u8], to: &Path) -> Outcome<()> {
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).attempt(folder.display())?;
    let staged = to.with_extension("new");
    fs::write(&staged, bytes).attempt(staged.display())?;
    fs::rename(&staged, to).attempt(to.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_with_two_kernels_is_refused() {
        let folder = tempfile::TempDir::new().unwrap();
        fs::create_dir(folder.path().join("6.1.0-1")).unwrap();
        assert_eq!(only_entry(folder.path()).ok(), Some("6.1.0-1".to_owned()));
        fs::create_dir(folder.path().join("6.1.0-2")).unwrap();
        assert!(only_entry(folder.path()).is_err_and(|failure| failure.message.contains("2 kernels")));
    }

    #[test]
    fn an_image_is_replaced_only_when_it_changed() {
        let folder = tempfile::TempDir::new().unwrap();
        let image = folder.path().join("linux/initrd");
        for bytes in [b"one", b"two", b"two"] {
            publish(bytes, &image).unwrap_or_else(|failure| panic!("{}", failure.message));
            assert_eq!(fs::read(&image).unwrap(), bytes);
        }
        let names = fs::read_dir(folder.path().join("linux")).unwrap().count();
        assert_eq!(names, 1, "nothing staged is left");
    }
}
