//! The kernel's modules for the devices of a virtual machine, each after those that it needs.

use crate::failure::{Attempt, Failure, Outcome};
use elf::ElfBytes;
use elf::endian::AnyEndian;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The drivers, for virtio devices found by memory address.
const WANTED: [&str; 6] =
    ["virtio_mmio", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng", "virtio_balloon"];

/// What is there for those who load it themselves.
const APART: [&str; 1] = ["msr"];

/// One module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// As the kernel calls it.
    pub name: String,
    /// What `insmod` takes.
    pub bytes: Vec<u8>,
}

/// Returns the drivers and what they need, from the folder of a kernel's modules, in an order in which they load.
pub fn in_load_order(folder: &Path) -> Outcome<Vec<Module>> {
    ordered(folder, &WANTED)
}

/// Returns those that nobody loads by himself.
pub fn apart(folder: &Path) -> Outcome<Vec<Module>> {
    ordered(folder, &APART)
}

fn ordered(folder: &Path, wanted: &[&str]) -> Outcome<Vec<Module>> {
    let mut files = BTreeMap::new();
    collect(&folder.join("kernel"), &mut files)?;
    let list = folder.join("modules.builtin");
    let builtin = fs::read_to_string(&list).attempt(list.display())?;
    let builtin: Vec<String> = builtin.lines().filter_map(|line| name_of(Path::new(line))).collect();
    let mut order = Vec::new();
    for name in wanted {
        load(name, &files, &builtin, &mut order)?;
    }
    Ok(order)
}

/// Adds a module to the order after those that it needs; what is built into the kernel is there already.
fn load(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    builtin: &[String],
    order: &mut Vec<Module>,
) -> Outcome<()> {
    if order.iter().any(|module| module.name == name) || builtin.iter().any(|there| there == name) {
        return Ok(());
    }
    let file =
        files.get(name).ok_or_else(|| Failure::new(format!("{name}: the kernel has no such module")))?;
    let bytes = fs::read(file).attempt(file.display())?;
    for needed in needs(&bytes).attempt(file.display())? {
        load(&needed, files, builtin, order)?;
    }
    order.push(Module { name: name.to_owned(), bytes });
    Ok(())
}

/// The names in a module's `depends=` (Linux `scripts/mod/modpost.c`).
fn needs(bytes: &[u8]) -> Result<Vec<String>, String> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).map_err(|error| error.to_string())?;
    let section = file.section_header_by_name(".modinfo").map_err(|error| error.to_string())?;
    let section = section.ok_or("no .modinfo in it: not a module")?;
    let (facts, _) = file.section_data(&section).map_err(|error| error.to_string())?;
    Ok(depends(facts))
}

fn depends(facts: &[u8]) -> Vec<String> {
    let facts = facts.split(|byte| *byte == 0).filter_map(|fact| std::str::from_utf8(fact).ok());
    let names = facts.filter_map(|fact| fact.strip_prefix("depends=")).flat_map(|names| names.split(','));
    names.filter(|name| !name.is_empty()).map(kernel_name).collect()
}

/// Collects the modules below a folder by name.
fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Outcome<()> {
    for entry in folder.read_dir().attempt(folder.display())? {
        let path = entry.attempt(folder.display())?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = name_of(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// The name of the module in a file; none when it holds no module.
fn name_of(file: &Path) -> Option<String> {
    let stem = file.file_name()?.to_str()?.strip_suffix(".ko")?;
    Some(kernel_name(stem))
}

/// Files may have dashes where the kernel has underscores.
fn kernel_name(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_is_read_from_its_facts() {
        let facts = b"license=GPL\0depends=virtio_ring,virtio,net-failover\0retpoline=Y\0";
        assert_eq!(depends(facts), ["virtio_ring", "virtio", "net_failover"]);
        assert!(depends(b"depends=\0name=virtio\0").is_empty());
        assert_eq!(name_of(Path::new("kernel/x/virtio-rng.ko")).as_deref(), Some("virtio_rng"));
        assert_eq!(name_of(Path::new("kernel/x/virtio_ring.ko.xz")), None);
    }

    #[test]
    fn a_module_that_is_built_in_is_not_loaded_and_one_that_is_missing_is_named() {
        let builtin = ["virtio".to_owned()];
        let mut order = Vec::new();
        assert!(load("virtio", &BTreeMap::new(), &builtin, &mut order).is_ok());
        assert!(order.is_empty());
        let failure = load("virtio_net", &BTreeMap::new(), &builtin, &mut order);
        assert!(failure.is_err_and(|failure| failure.message.starts_with("virtio_net: ")));
    }

    #[test]
    fn a_file_that_is_no_module_is_refused() {
        assert!(needs(b"#!/bin/sh").is_err());
    }
}
