//! What is in the initial RAM disk.

use super::cpio::{Archive, Entry};
use super::modules::Module;
use crate::failure::{Attempt, Outcome};
use std::fs;
use std::path::{Path, PathBuf};

/// Where things come from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The shell and its tools.
    pub busybox: PathBuf,
    /// The first process: a script.
    pub init: PathBuf,
    /// The program that keeps a processor busy.
    pub load: PathBuf,
    /// What `init` loads, in load order.
    pub modules: Vec<Module>,
    /// What it loads where it is told to.
    pub apart: Vec<Module>,
}

/// Folders that init mounts something on.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "tmp"];
/// `/dev/console`, which the kernel opens before anything is mounted (Linux `Documentation/admin-guide/devices.txt`).
const CONSOLE: Entry = Entry::CharacterDevice { major: 5, minor: 1 };

/// Returns the archive's bytes.
pub fn archive(parts: &Parts) -> Outcome<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in MOUNT_POINTS {
        archive.add(folder, Entry::Folder);
    }
    archive.add("dev/console", CONSOLE);
    archive.add("init", program(&parts.init)?);
    archive.add("bin/load", program(&parts.load)?);
    archive.add("bin/busybox", program(&parts.busybox)?);
    // The shell finds its own tools without any link; others start it by this one.
    archive.add("bin/sh", Entry::Link("busybox".into()));
    let mut order = String::new();
    for module in &parts.modules {
        order.push_str(&module.name);
        order.push('\n');
    }
    for module in parts.modules.iter().chain(&parts.apart) {
        archive.add(&format!("lib/modules/{}.ko", module.name), Entry::File(module.bytes.clone()));
    }
    archive.add("etc/modules", Entry::File(order.into_bytes()));
    archive.bytes()
}

fn program(file: &Path) -> Outcome<Entry> {
    fs::read(file).attempt(file.display()).map(Entry::Program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_listed_in_load_order() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("program");
        fs::write(&file, b"#!").unwrap();
        let module = |name: &str| Module { name: name.into(), bytes: vec![1] };
        let parts = Parts {
            busybox: file.clone(),
            init: file.clone(),
            load: file,
            modules: vec![module("virtio_ring"), module("virtio")],
            apart: vec![module("msr")],
        };
        let bytes = archive(&parts).unwrap_or_else(|failure| panic!("{}", failure.message));
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("virtio_ring\nvirtio\n") && !text.contains("msr\n"), "{text}");
        for path in ["dev/console\0", "init\0", "lib/modules/virtio.ko\0", "lib/modules/msr.ko\0", "proc\0"] {
            assert!(text.contains(path), "{path}");
        }
    }
}
