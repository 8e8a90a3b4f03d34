//! Where the files of a running machine lie in its folder.

use std::path::{Path, PathBuf};

/// Where COM2 goes in a machine's folder.
pub(super) fn com2(folder: &Path) -> PathBuf {
    folder.join("com2")
}

/// Where the CD lies in a machine's folder.
pub(super) fn cd(folder: &Path) -> PathBuf {
    folder.join("cd.iso")
}

/// Where QEMU notes resets in a machine's folder.
pub(super) fn reset_log(folder: &Path) -> PathBuf {
    folder.join("reset")
}
