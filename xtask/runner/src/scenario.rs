//! What runs on one machine: guests, what each is granted, and what they share.
//!
//! A scenario is a TOML file; `schema.rs` has its keys. Every mistake in it is refused with one line that names file, line
//! and key.

mod check;
mod files;
mod schema;

use crate::refusal::Refusal;
use files::Files;
use hv_format::bundle::{Bundle, BundleError};
use hv_format::heap;
use hv_format::manifest::{
    ChannelConfig, Devices, DiskConfig, GuestConfig, MAX_COMMAND_LINE_BYTES, Mode, Payload, TscTrust,
    Visibility,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Memory the hypervisor keeps for itself, in MiB: image, tables, heap, trace.
pub const HYPERVISOR_MIB: u64 = 64;

/// Longest run, in seconds: a day.
pub const MAX_TIMEOUT_S: u32 = 86_400;

/// A disk's last sector is filled up with zeroes.
const SECTOR_BYTES: usize = 512;

/// A checked scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The machine they share.
    pub machine: MachineConfig,
    /// The guests, in the order of their ids.
    pub guests: Vec<Guest>,
    /// Memory that guests share.
    pub channels: Vec<ChannelConfig>,
    /// Which guest gets what the user types; none: the hypervisor gives it to the first.
    pub input: Option<String>,
    /// Whether that guest's console is the user's terminal.
    pub terminal: bool,
    /// Where each channel's table begins in the scenario, in bytes.
    channels_at: Vec<usize>,
    source: Source,
}

/// The machine of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    /// RAM, in MiB.
    pub memory_mib: u32,
    /// Processors, 1 … 64.
    pub cpus: u8,
    /// Whether time is counted in instructions, the same on every run.
    pub icount: bool,
    /// What the time-stamp counter may be used for.
    pub tsc: TscTrust,
    /// How long the machine may take before it is stopped.
    pub timeout: Duration,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            memory_mib: 512,
            cpus: 1,
            icount: false,
            tsc: TscTrust::default(),
            timeout: Duration::from_secs(60),
        }
    }
}

/// A disk of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What is on it.
    pub image: PathBuf,
    /// How much of it may be changed, in MiB, until the guest ends; 0: it is read-only.
    pub writable_mib: u32,
}

/// A guest of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// 1 … 16 bytes of `a-z A-Z 0-9 - _`.
    pub name: String,
    /// The ELF.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// How it is virtualized.
    pub mode: Mode,
    /// 1 … 64.
    pub vcpus: u8,
    /// A multiple of 2 from 4 to 3,072.
    pub memory_mib: u32,
    /// How far it may grow; no further without it.
    pub memory_max_mib: Option<u32>,
    /// 1 … 10,000.
    pub weight: u32,
    /// What it may see of the others.
    pub visibility: Visibility,
    /// How often it is started again after it was killed.
    pub restarts: u32,
    /// Passed to the kernel.
    pub command_line: String,
    /// vCPU i runs on processor `pin[i % len]` only; empty: anywhere.
    pub pin: Vec<u8>,
    /// A virtio disk.
    pub disk: Option<Disk>,
    /// The network that its virtio card is on.
    pub network: Option<String>,
    /// Whether it has a virtio console.
    pub virtio_console: bool,
    /// Whether it has a virtio source of random bytes.
    pub entropy: bool,
    /// Whether it has a virtio balloon, and lends what it reports.
    pub balloon: bool,
    /// Whether it may write marks to a port in full mode.
    pub mark_port: bool,
    /// Where its table begins in the scenario, in bytes; 0 for a guest that a program made.
    pub table_at: usize,
}

impl Guest {
    /// Returns a guest with a kernel and otherwise what the schema gives by default.
    pub fn new(name: &str, kernel: PathBuf) -> Self {
        Self {
            name: name.into(),
            kernel,
            initrd: None,
            mode: Mode::default(),
            vcpus: 1,
            memory_mib: 16,
            memory_max_mib: None,
            weight: 100,
            visibility: Visibility::default(),
            restarts: 0,
            command_line: String::new(),
            pin: Vec::new(),
            disk: None,
            network: None,
            virtio_console: false,
            entropy: false,
            balloon: false,
            mark_port: false,
            table_at: 0,
        }
    }

    /// How far its memory may grow, in MiB.
    pub fn most_mib(&self) -> u32 {
        self.memory_max_mib.unwrap_or(self.memory_mib)
    }
}

/// The text a scenario was read from, for naming lines; empty when it was made by a program.
#[derive(Clone, Debug, Default)]
struct Source {
    file: PathBuf,
    text: String,
}

impl Source {
    /// A refusal at the line where `key` is set in the table that begins at `table_at`, or at the table's first line.
    fn refuse(&self, table_at: usize, key: &str, message: impl Into<String>) -> Refusal {
        let line = (!self.text.is_empty()).then(|| self.line_of_key(table_at, key));
        Refusal { file: self.file.clone(), line, message: message.into() }
    }

    /// The line, from 1, of a byte of the text.
    fn line_at(&self, byte: usize) -> usize {
        self.text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
    }

    fn line_of_key(&self, table_at: usize, key: &str) -> usize {
        let first = self.line_at(table_at);
        let sets = |line: &str| {
            line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        let table = self.text.lines().enumerate().skip(first - 1);
        let body = table.skip(1).take_while(|(_, line)| !line.trim_start().starts_with('['));
        body.filter(|(_, line)| sets(line)).map(|(number, _)| number + 1).next().unwrap_or(first)
    }
}

impl Scenario {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// The first mistake, by line and key.
    pub fn load(file: &Path) -> Result<Self, Refusal> {
        let text = fs::read_to_string(file).map_err(|error| Refusal::of_file(file, error.to_string()))?;
        Self::parse(file, text)
    }

    /// Checks the text of a scenario; kernels are looked for beside `file`.
    ///
    /// # Errors
    ///
    /// The first mistake, by line and key.
    pub fn parse(file: &Path, text: String) -> Result<Self, Refusal> {
        let source = Source { file: file.to_path_buf(), text };
        let scenario = check::resolve(schema::read(&source)?, source)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Returns a scenario of one guest, made by a program.
    ///
    /// # Errors
    ///
    /// What is wrong with the guest, under the name of its kernel.
    pub fn of_guest(machine: MachineConfig, guest: Guest) -> Result<Self, Refusal> {
        let source = Source { file: guest.kernel.clone(), text: String::new() };
        let scenario = Self {
            machine,
            guests: vec![guest],
            channels: Vec::new(),
            input: None,
            terminal: false,
            channels_at: Vec::new(),
            source,
        };
        scenario.check()?;
        Ok(scenario)
    }

    /// The hypervisor's command line: who gets what is typed.
    pub fn command_line(&self) -> String {
        let input = self.input.as_ref().map(|guest| format!("input={guest}"));
        let terminal = self.terminal.then(|| "terminal".to_owned());
        input.into_iter().chain(terminal).collect::<Vec<_>>().join(" ")
    }

    /// Reads and checks the files and returns the bundle.
    ///
    /// # Errors
    ///
    /// A file that is missing, a kernel or an initial RAM disk that cannot be loaded, by guest; more memory than there is.
    pub fn bundle(&self) -> Result<Vec<u8>, Refusal> {
        self.bundle_with("")
    }

    /// The same with more words on every guest's command line.
    ///
    /// # Errors
    ///
    /// As [`bundle`](Self::bundle).
    pub fn bundle_with(&self, words: &str) -> Result<Vec<u8>, Refusal> {
        let mut files = Files::new(self);
        for guest in &self.guests {
            let config = self.grant(guest, words);
            let length = config.command_line.len();
            if length > MAX_COMMAND_LINE_BYTES {
                let message = format!(
                    "guest '{}': key 'command_line': {length} bytes with the machine's own {words:?}, expected at most \
                     {MAX_COMMAND_LINE_BYTES}",
                    guest.name
                );
                return Err(self.source.refuse(guest.table_at, "command_line", message));
            }
            files.add(guest, config)?;
        }
        let mut writer = files.writer;
        for channel in &self.channels {
            writer.channel(*channel);
        }
        let whole = |error: BundleError| Refusal::of_file(&self.source.file, error.to_string());
        let bytes = writer.finish().map_err(whole)?;
        let heap = heap::Size::of(Bundle::parse(&bytes).map_err(whole)?.manifest(), self.machine.cpus);
        let more_heap_bytes = heap.bytes().saturating_sub(heap::LEAST_BYTES);
        self.check_memory(bytes.len() as u64, more_heap_bytes)?;
        Ok(bytes)
    }
}

impl Scenario {
    /// What the hypervisor is told about a guest; the writer fills in the payloads.
    fn grant(&self, guest: &Guest, words: &str) -> GuestConfig {
        let nowhere = Payload { offset_bytes: 0, len_bytes: 0 };
        let disk = guest.disk.as_ref();
        let disk = disk
            .map(|disk| DiskConfig { image: nowhere, writable_pages: disk.writable_mib.saturating_mul(256) });
        let network =
            guest.network.as_ref().and_then(|name| self.networks().iter().position(|known| *known == name));
        GuestConfig {
            devices: Devices {
                disk,
                network: network.and_then(|number| u8::try_from(number).ok()),
                console: guest.virtio_console,
                entropy: guest.entropy,
                balloon: guest.balloon,
            },
            name: guest.name.clone(),
            mode: guest.mode,
            vcpus: guest.vcpus,
            memory_mib: guest.memory_mib,
            memory_max_mib: guest.most_mib(),
            weight: guest.weight,
            visibility: guest.visibility,
            restarts: guest.restarts,
            kernel: nowhere,
            initrd: None,
            command_line: format!("{}{words}", guest.command_line),
            pin: guest.pin.clone(),
            mark_port: guest.mark_port,
        }
    }

    /// The networks' names, in the order of their numbers.
    pub fn networks(&self) -> Vec<&String> {
        let mut names = Vec::new();
        for name in self.guests.iter().filter_map(|guest| guest.network.as_ref()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}
