//! Who may depend on whom (DESIGN §2): the hypervisor and the shim never import each other.

use super::Finding;
use super::tree::{PACKAGES, Package, Tree};
use crate::failure::{Attempt, Outcome};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What each package may name of the others.
const ARROWS: [(&str, &[&str]); PACKAGES.len()] = [
    ("hv-format", &[]),
    ("pv-abi", &[]),
    ("ring-buffers", &["pv-abi"]),
    ("hv-core", &["hv-format", "pv-abi", "ring-buffers"]),
    ("guest-kernel-shim", &["pv-abi", "ring-buffers"]),
    ("runner", &["hv-format"]),
    ("tests", &["hv-core", "hv-format", "pv-abi", "runner"]),
    ("xtask", &["hv-format", "runner"]),
];

/// Checks every Cargo.toml, and that no file is pulled in from outside its package.
pub fn check(tree: &Tree) -> Outcome<Vec<Finding>> {
    let mut findings = Vec::new();
    for Package { name: package, folder } in PACKAGES {
        let allowed =
            ARROWS.iter().find(|(name, _)| *name == package).map_or(&[][..], |(_, allowed)| *allowed);
        let file = Path::new(folder).join("Cargo.toml");
        let text = fs::read_to_string(tree.root.join(&file)).attempt(file.display())?;
        let manifest: toml::Table = text.parse().attempt(file.display())?;
        let mut named = BTreeSet::new();
        dependencies(&manifest, &mut named);
        // A package that names itself turns its own features on for its tests; cargo lets nothing else name itself.
        let foreign = |other: &&str| *other != package && named.contains(*other) && !allowed.contains(other);
        for other in PACKAGES.map(|package| package.name).into_iter().filter(foreign) {
            let line =
                text.lines().position(|line| line.trim_start().starts_with(other)).map_or(0, |line| line + 1);
            findings.push(Finding::new(&file, line, format!("{package} may not depend on {other}")));
        }
    }
    for source in &tree.sources {
        for module in source.scan.modules.iter().filter(|module| outside(module.path.as_deref())) {
            let message = format!("module '{}' lies outside its package's own folder", module.name);
            findings.push(Finding::new(&source.file, module.line, message));
        }
    }
    Ok(findings)
}

fn outside(path: Option<&str>) -> bool {
    path.is_some_and(|path| path.starts_with('/') || path.starts_with("..") || path.contains("/.."))
}

/// Collects what the dependency tables name, those of single targets included.
fn dependencies(table: &toml::Table, named: &mut BTreeSet<String>) {
    for (key, value) in table {
        let Some(inner) = value.as_table() else { continue };
        if key.ends_with("dependencies") {
            for (name, dependency) in inner {
                let renamed = dependency.get("package").and_then(toml::Value::as_str);
                named.insert(renamed.unwrap_or(name).to_owned());
            }
        } else {
            dependencies(inner, named);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_forbidden_dependency_is_named_under_any_table_and_name() {
        let files = [
            (
                "hv-core/Cargo.toml",
                "[dependencies]\npv-abi.workspace = true\nguest-kernel-shim.workspace = true\n",
            ),
            ("guest-kernel-shim/Cargo.toml", "[dev-dependencies]\nhv = { package = \"hv-core\" }\n"),
            ("hv-core/format/Cargo.toml", "[dependencies]\nhv-core = { path = \"..\" }\n"),
            ("pv-abi/Cargo.toml", "[target.'cfg(loom)'.dependencies]\nring-buffers = \"1\"\n"),
            ("tests/Cargo.toml", "[dependencies]\nhv-core.workspace = true\n"),
            ("xtask/Cargo.toml", "[dependencies]\nhv-core.workspace = true\n"),
            ("hv-core/src/lib.rs", "#[path = \"../../guest-kernel-shim/src/lib.rs\"]\nmod stolen;"),
        ];
        let (_folder, tree) = sample::tree(&files);
        let expected = [
            "hv-core/Cargo.toml:3: hv-core may not depend on guest-kernel-shim",
            "hv-core/format/Cargo.toml:2: hv-format may not depend on hv-core",
            "pv-abi/Cargo.toml:2: pv-abi may not depend on ring-buffers",
            "guest-kernel-shim/Cargo.toml: guest-kernel-shim may not depend on hv-core",
            "xtask/Cargo.toml:2: xtask may not depend on hv-core",
            "hv-core/src/lib.rs:2: module 'stolen' lies outside its package's own folder",
        ];
        assert_eq!(sample::lines(check(&tree).unwrap_or_default()), expected);
    }
}
