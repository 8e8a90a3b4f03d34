//! All source files of the workspace, found the way the compiler finds them: from the roots, by `mod`.

use super::scan::{Module, Scan};
use crate::failure::{Attempt, Outcome};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A package of the workspace.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// Where it lies: a folder of the workspace, or one inside another package.
    pub folder: &'static str,
}

impl Package {
    /// A package that has its folder's name.
    const fn of_folder(name: &'static str) -> Self {
        Self { name, folder: name }
    }
}

/// All of them.
pub const PACKAGES: [Package; 8] = [
    Package::of_folder("hv-core"),
    Package { name: "hv-format", folder: "hv-core/format" },
    Package::of_folder("pv-abi"),
    Package::of_folder("ring-buffers"),
    Package::of_folder("guest-kernel-shim"),
    Package::of_folder("tests"),
    Package::of_folder("xtask"),
    Package { name: "runner", folder: "xtask/runner" },
];

/// One source file that is reached.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its package.
    pub package: &'static str,
    /// Its path from the workspace's root.
    pub file: PathBuf,
    /// The root of its crate.
    pub root: PathBuf,
    /// Its module path in its crate; empty for a root.
    pub module: Vec<String>,
    /// Whether it exists for tests only.
    pub test: bool,
    /// Whether its `mod` line invites unsafe code.
    pub invited: bool,
    /// Its length.
    pub lines: usize,
    /// Its lines that are neither blank nor comments only, from 1.
    pub code: Vec<usize>,
    /// What it says.
    pub scan: Scan,
}

impl Source {
    /// Lines that are not for tests.
    pub fn product_lines(&self) -> usize {
        if self.test || self.scan.test {
            return 0;
        }
        let tests: usize = self.scan.test_lines.iter().map(|range| range.clone().count()).sum();
        self.lines.saturating_sub(tests)
    }

    /// Lines of code that is not for tests.
    pub fn product_code(&self) -> usize {
        if self.test || self.scan.test {
            return 0;
        }
        let for_tests = |line: &usize| self.scan.test_lines.iter().any(|range| range.contains(line));
        self.code.iter().filter(|line| !for_tests(line)).count()
    }
}

/// Numbers of the lines that are neither blank nor comments only.
fn code_lines(text: &str) -> Vec<usize> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with("//")).map(|(number, _)| number).collect()
}

/// The workspace.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Its folder.
    pub root: PathBuf,
    /// Every file that is reached from a root.
    pub sources: Vec<Source>,
}

/// A file still to be read.
struct Visit {
    file: PathBuf,
    root: PathBuf,
    module: Vec<String>,
    test: bool,
    invited: bool,
    /// The folder in which its `mod` lines look.
    children: PathBuf,
}

impl Tree {
    /// Reads a workspace.
    pub fn read(root: &Path) -> Outcome<Self> {
        let mut tree = Self { root: root.to_path_buf(), sources: Vec::new() };
        let mut seen = BTreeSet::new();
        for package in PACKAGES {
            let mut waiting: Vec<Visit> =
                roots(&root.join(package.folder)).into_iter().map(Visit::of_root).collect();
            while let Some(visit) = waiting.pop() {
                if seen.insert(visit.file.clone()) {
                    waiting.extend(tree.visit(package.name, visit)?);
                }
            }
        }
        tree.sources.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(tree)
    }

    /// Reads one file and returns those it names.
    fn visit(&mut self, package: &'static str, visit: Visit) -> Outcome<Vec<Visit>> {
        let file = visit.file.strip_prefix(&self.root).unwrap_or(&visit.file).to_path_buf();
        let text = fs::read_to_string(&visit.file).attempt(file.display())?;
        let scan = Scan::of(&text, &visit.module).attempt(file.display())?;
        let next = scan.modules.iter().filter_map(|module| visit.child(module, scan.test)).collect();
        self.sources.push(Source {
            package,
            file,
            root: visit.root,
            module: visit.module,
            test: visit.test,
            invited: visit.invited,
            lines: text.lines().count(),
            code: code_lines(&text),
            scan,
        });
        Ok(next)
    }
}

impl Visit {
    fn of_root(file: PathBuf) -> Self {
        let children = file.parent().unwrap_or(Path::new("")).to_path_buf();
        let test = children.ends_with("tests") && !children.join("Cargo.toml").is_file();
        Self { root: file.clone(), file, module: Vec::new(), test, invited: false, children }
    }

    /// The file of a `mod` line; none when it is not there, which the compiler says.
    fn child(&self, module: &Module, test: bool) -> Option<Self> {
        let mut path = self.module.clone();
        path.extend(module.within.iter().cloned());
        path.push(module.name.clone());
        let folder = module.within.iter().fold(self.children.clone(), |folder, name| folder.join(name));
        let beside = self.file.parent().unwrap_or(Path::new(""));
        let candidates = match &module.path {
            Some(named) => vec![(beside.join(named), beside.to_path_buf())],
            None => vec![
                (folder.join(format!("{}.rs", module.name)), folder.join(&module.name)),
                (folder.join(&module.name).join("mod.rs"), folder.join(&module.name)),
            ],
        };
        let (file, children) = candidates.into_iter().find(|(file, _)| file.is_file())?;
        let test = self.test || module.test || test;
        let root = self.root.clone();
        Some(Self { file, root, module: path, test, invited: module.invites_unsafe, children })
    }
}

/// Programs that xtask builds without cargo, each a file of its own.
const ALONE: &str = "linux";

/// The crate roots of a package, by cargo's conventions, and programs that are built alone.
fn roots(package: &Path) -> Vec<PathBuf> {
    let fixed = ["src/lib.rs", "src/main.rs", "build.rs"].map(|file| package.join(file));
    let mut found: Vec<PathBuf> = fixed.into_iter().filter(|file| file.is_file()).collect();
    for folder in ["src/bin", "tests", "benches", "examples", ALONE] {
        let Ok(entries) = package.join(folder).read_dir() else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let nested = path.join("main.rs");
            if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            } else if nested.is_file() && !path.join("Cargo.toml").is_file() {
                found.push(nested);
            }
        }
    }
    found
}
