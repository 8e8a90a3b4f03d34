//! A scenario's files: each is read once, whoever has it, and each kernel is checked against every guest that boots it.

use super::{Guest, SECTOR_BYTES, Scenario};
use crate::bundle::{BundleWriter, FileIndex, GuestFiles};
use crate::images;
use crate::refusal::Refusal;
use hv_format::load::{self, LoadError};
use hv_format::manifest::GuestConfig;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// In which form a file goes into the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// As it is: a kernel, an initial RAM disk.
    Whole,
    /// Filled up with zeroes to whole sectors: a disk.
    Sectors,
}

/// A bundle in the making, with what was read for it.
pub(super) struct Files<'a> {
    scenario: &'a Scenario,
    pub(super) writer: BundleWriter,
    read: BTreeMap<(PathBuf, Form), FileIndex>,
}

impl<'a> Files<'a> {
    pub(super) fn new(scenario: &'a Scenario) -> Self {
        Self { scenario, writer: BundleWriter::new(scenario.machine.tsc), read: BTreeMap::new() }
    }

    /// Adds a guest with its files, after the loader's own check of them.
    pub(super) fn add(&mut self, guest: &Guest, config: GuestConfig) -> Result<(), Refusal> {
        let initrd = guest.initrd.as_deref();
        let disk = guest.disk.as_ref().map(|disk| &*disk.image);
        let files = GuestFiles {
            kernel: self.file(guest, "kernel", &guest.kernel, Form::Whole)?,
            initrd: initrd.map(|path| self.file(guest, "initrd", path, Form::Whole)).transpose()?,
            disk: disk.map(|path| self.file(guest, "disk", path, Form::Sectors)).transpose()?,
        };
        let request = load::LoadRequest {
            ram_bytes: u64::from(guest.memory_mib) << 20,
            kernel: self.writer.bytes(files.kernel),
            initrd: files.initrd.map(|initrd| self.writer.bytes(initrd)),
            command_line: &config.command_line,
            acpi: None,
        };
        load::plan(&request).map_err(|error| self.unloadable(guest, error))?;
        self.writer.guest(config, files);
        Ok(())
    }

    /// A file by its number, read if nobody had it in that form before.
    fn file(&mut self, guest: &Guest, key: &str, path: &Path, form: Form) -> Result<FileIndex, Refusal> {
        let place = (path.to_path_buf(), form);
        if let Some(known) = self.read.get(&place) {
            return Ok(*known);
        }
        let mut bytes = fs::read(path).map_err(|error| {
            let unbuilt = path.parent() == Some(&images::folder());
            let what = if unbuilt {
                "no such image; `cargo xtask build` makes them".into()
            } else {
                error.to_string()
            };
            self.refuse(guest, key, path, what)
        })?;
        if bytes.is_empty() {
            return Err(self.refuse(guest, key, path, "an empty file"));
        }
        if form == Form::Sectors {
            bytes.resize(bytes.len().next_multiple_of(SECTOR_BYTES), 0);
        }
        let file = self.writer.file(bytes);
        self.read.insert(place, file);
        Ok(file)
    }

    /// What the loader says, at the key that is to blame.
    fn unloadable(&self, guest: &Guest, error: LoadError) -> Refusal {
        if let (LoadError::NoRoomForInitrd(_), Some(initrd)) = (error, &guest.initrd) {
            return self.refuse(guest, "initrd", initrd, error);
        }
        if let LoadError::LongCommandLine(_) = error {
            let message = format!("guest '{}': key 'command_line': {error}", guest.name);
            return self.scenario.source.refuse(guest.table_at, "command_line", message);
        }
        self.refuse(guest, "kernel", &guest.kernel, error)
    }

    fn refuse(&self, guest: &Guest, key: &str, path: &Path, what: impl ToString) -> Refusal {
        let message = format!("guest '{}': {key} {}: {}", guest.name, path.display(), what.to_string());
        self.scenario.source.refuse(guest.table_at, key, message)
    }
}
