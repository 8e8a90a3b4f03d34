//! Where the bootable ELFs lie that `cargo xtask build` makes.

use std::env;
use std::path::PathBuf;

/// The folder of the images: `$COMITY_IMAGES`, or `target/images` of this repository.
pub fn folder() -> PathBuf {
    let of_repository = || crate::root().join("target/images");
    env::var_os("COMITY_IMAGES").map_or_else(of_repository, PathBuf::from)
}

/// The hypervisor.
pub fn hypervisor() -> PathBuf {
    folder().join("comity")
}

/// The image of a guest in `guest-kernel-shim/src/bin`.
pub fn guest(name: &str) -> PathBuf {
    folder().join(name)
}

/// Debian's kernel, which `cargo xtask linux` fetches.
pub fn linux_kernel() -> PathBuf {
    folder().join("linux/vmlinuz")
}

/// The initial RAM disk for it, which `cargo xtask linux` makes.
pub fn linux_initrd() -> PathBuf {
    folder().join("linux/initrd")
}
