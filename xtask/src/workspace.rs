//! Where things lie in the repository.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

/// The repository's root.
pub fn root() -> PathBuf {
    runner::root().to_path_buf()
}

/// Where bootable ELFs are put for everybody who boots them.
pub fn images() -> PathBuf {
    root().join("target/images")
}

/// The cargo that started us, or the one in the path.
pub fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Finds a program in the path.
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}
