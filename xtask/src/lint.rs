//! `cargo xtask lint`: the law of the house that the compiler cannot see.

mod arrows;
mod circles;
mod ground;
mod invited;
mod orphans;
mod rooms;
mod scan;
mod size;
mod tree;

use crate::failure::{Failure, Outcome};
use crate::workspace;
use std::fmt;
use std::path::{Path, PathBuf};
use tree::Tree;

/// A breach: where, and which rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    file: PathBuf,
    /// From 1; 0 for the whole file.
    line: usize,
    message: String,
}

impl Finding {
    fn new(file: &Path, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.to_path_buf(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.line {
            0 => write!(f, "{file}: {}", self.message),
            line => write!(f, "{file}:{line}: {}", self.message),
        }
    }
}

/// Runs the command.
pub fn run() -> Outcome<()> {
    let tree = Tree::read(&workspace::root())?;
    let mut findings = Vec::new();
    findings.extend(arrows::check(&tree)?);
    findings.extend(rooms::check(&tree));
    findings.extend(ground::check(&tree));
    findings.extend(circles::check(&tree));
    findings.extend(invited::check(&tree));
    findings.extend(orphans::check(&tree)?);
    findings.extend(size::check(&tree));
    findings.sort();
    for finding in &findings {
        eprintln!("error: {finding}");
    }
    for note in size::notes(&tree) {
        println!("note: {note}");
    }
    if findings.is_empty() {
        println!("lint: {} files, nothing to say", tree.sources.len());
        return Ok(());
    }
    Err(Failure::new(format!("lint: {} of the house's rules broken", findings.len())))
}

/// A workspace of a few files for the tests of the lints.
#[cfg(test)]
mod sample {
    use super::tree::Tree;
    use std::fs;
    use tempfile::TempDir;

    /// Writes the files and reads them back as a tree; packages without a file of their own get an empty library.
    pub fn tree(files: &[(&str, &str)]) -> (TempDir, Tree) {
        let folder = TempDir::new().unwrap();
        for package in super::tree::PACKAGES {
            let source = folder.path().join(package.folder).join("src");
            fs::create_dir_all(&source).unwrap();
            fs::write(source.join("lib.rs"), "").unwrap();
            fs::write(folder.path().join(package.folder).join("Cargo.toml"), "[package]\n").unwrap();
        }
        for (name, text) in files {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let tree = Tree::read(folder.path()).unwrap_or_else(|failure| panic!("{}", failure.message));
        (folder, tree)
    }

    /// The findings as lines.
    pub fn lines(findings: Vec<super::Finding>) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }
}
