//! No source file that no crate reaches: the compiler never sees it, and readers believe it.

use super::Finding;
use super::tree::{PACKAGES, Tree};
use crate::failure::{Attempt, Outcome};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Checks every file of every package.
pub fn check(tree: &Tree) -> Outcome<Vec<Finding>> {
    let reached: BTreeSet<PathBuf> = tree.sources.iter().map(|source| tree.root.join(&source.file)).collect();
    let mut findings = Vec::new();
    for package in PACKAGES {
        let mut files = Vec::new();
        rust_files(&tree.root.join(package.folder), &mut files)?;
        for file in files.iter().filter(|file| !reached.contains(*file)) {
            let shown = file.strip_prefix(&tree.root).unwrap_or(file);
            findings.push(Finding::new(shown, 0, "no crate reaches this file by `mod`"));
        }
    }
    Ok(findings)
}

/// Collects the Rust files of a package; a folder with its own Cargo.toml is another package.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Outcome<()> {
    for entry in folder.read_dir().attempt(folder.display())? {
        let path = entry.attempt(folder.display())?.path();
        let hidden =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.') || name == "target");
        if path.is_dir() {
            if !hidden && !path.join("Cargo.toml").is_file() {
                rust_files(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_file_that_no_crate_reaches_is_named() {
        let files = [
            (
                "pv-abi/src/lib.rs",
                "mod reached;\nmod inline { mod deep; }\n#[path = \"odd/name.rs\"]\nmod odd;",
            ),
            ("pv-abi/src/reached.rs", "mod below;"),
            ("pv-abi/src/reached/below.rs", ""),
            ("pv-abi/src/inline/deep.rs", ""),
            ("pv-abi/src/odd/name.rs", ""),
            ("pv-abi/src/lost.rs", ""),
            ("pv-abi/tests/one.rs", "mod common;"),
            ("pv-abi/tests/common/mod.rs", ""),
            ("pv-abi/tests/stray/mod.rs", ""),
            ("guest-kernel-shim/src/bin/hello.rs", ""),
            ("guest-kernel-shim/src/bin/bench/main.rs", "mod loops;"),
            ("guest-kernel-shim/src/bin/bench/loops.rs", ""),
        ];
        let (_folder, tree) = sample::tree(&files);
        let mut lines = sample::lines(check(&tree).unwrap_or_default());
        lines.sort();
        let expected = [
            "pv-abi/src/lost.rs: no crate reaches this file by `mod`",
            "pv-abi/tests/stray/mod.rs: no crate reaches this file by `mod`",
        ];
        assert_eq!(lines, expected);
    }
}
