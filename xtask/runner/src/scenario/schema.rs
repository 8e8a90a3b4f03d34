//! The TOML form of a scenario, and reading it with a line for every mistake.

use super::Source;
use crate::refusal::Refusal;
use hv_format::manifest::TscTrust;
use serde::Deserialize;
use toml::Spanned;

/// A whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The machine; every key has a default.
    #[serde(default)]
    pub machine: MachineTable,
    /// `[[guest]]`, at least one.
    #[serde(default)]
    pub guest: Vec<Spanned<GuestTable>>,
    /// `[[channel]]`.
    #[serde(default)]
    pub channel: Vec<Spanned<ChannelTable>>,
    /// Who gets what the user types.
    pub input: Option<Spanned<InputTable>>,
}

/// `[machine]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MachineTable {
    /// RAM, in MiB.
    pub memory_mib: u32,
    /// Processors, 1 … 64.
    pub cpus: Spanned<u8>,
    /// Time counted in instructions.
    pub icount: bool,
    /// `trusted` or `invariant`.
    pub tsc: TscTrust,
    /// Seconds until the machine is stopped, 1 … 86,400.
    pub timeout_s: Spanned<u32>,
}

impl Default for MachineTable {
    fn default() -> Self {
        Self {
            memory_mib: 512,
            cpus: Spanned::new(0..0, 1),
            icount: false,
            tsc: TscTrust::default(),
            timeout_s: Spanned::new(0..0, 60),
        }
    }
}

/// `[[guest]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestTable {
    /// Its name; with `count`, the beginning of its names.
    pub name: String,
    /// An image of `target/images` by name, `linux` for Debian's, or a path from the scenario's folder.
    pub kernel: String,
    /// `linux` for that kernel's, or a path from the scenario's folder.
    pub initrd: Option<String>,
    /// `full`, `kvm` or `cooperative`.
    #[serde(default = "full")]
    pub mode: String,
    /// 1 … 64.
    #[serde(default = "one")]
    pub vcpus: u8,
    /// A multiple of 2 from 4 to 3,072.
    #[serde(default = "small")]
    pub memory_mib: u32,
    /// How far it may grow: a multiple of 2 from `memory_mib` to 3,072; `memory_mib` without it.
    pub memory_max_mib: Option<u32>,
    /// 1 … 10,000.
    #[serde(default = "hundred")]
    pub weight: u32,
    /// `none` or `bit`.
    #[serde(default = "bit")]
    pub visibility: String,
    /// How often it is started again after it was killed.
    #[serde(default)]
    pub restarts: u32,
    /// At most 2,047 bytes.
    #[serde(default)]
    pub command_line: String,
    /// vCPU i runs on processor `pin[i % len]` only; anywhere without it.
    #[serde(default)]
    pub pin: Vec<u8>,
    /// A path from the scenario's folder: what is on a virtio disk. In full and kvm mode, as the next five.
    pub disk: Option<String>,
    /// How much of the disk may be changed, in MiB, until the guest ends.
    #[serde(default)]
    pub disk_writable_mib: u32,
    /// A name that the guests of a network have in common.
    pub network: Option<String>,
    /// A virtio console.
    #[serde(default)]
    pub virtio_console: bool,
    /// A virtio source of random bytes.
    #[serde(default)]
    pub entropy: bool,
    /// A virtio balloon: what the guest reports as free, others may have meanwhile.
    #[serde(default)]
    pub balloon: bool,
    /// Marks by port in full mode.
    #[serde(default)]
    pub mark_port: bool,
    /// How many of them: `name-0`, `name-1`, …
    pub count: Option<u16>,
}

/// `[[channel]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelTable {
    /// Two guests by name.
    pub ends: [String; 2],
    /// 1 … 64.
    #[serde(default = "one_page")]
    pub pages: u16,
}

/// `[input]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputTable {
    /// A guest by name.
    pub guest: String,
    /// What it writes is shown as it comes, byte by byte and without its name.
    #[serde(default)]
    pub terminal: bool,
}

fn full() -> String {
    "full".into()
}
fn bit() -> String {
    "bit".into()
}
const fn one() -> u8 {
    1
}
const fn one_page() -> u16 {
    1
}
const fn small() -> u32 {
    16
}
const fn hundred() -> u32 {
    100
}

/// Reads the text of a source.
pub fn read(source: &Source) -> Result<File, Refusal> {
    toml::from_str(&source.text).map_err(|error| {
        let line = error.span().map_or(1, |span| source.line_at(span.start));
        let message =
            error.message().lines().next().unwrap_or_default().replace("unknown field", "unknown key");
        let message = message.replace("missing field", "missing key").replace('`', "'");
        let key = source
            .text
            .lines()
            .nth(line - 1)
            .and_then(|text| text.split_once('='))
            .map(|(key, _)| key.trim());
        let message = match key {
            Some(key) if !message.contains(&format!("'{key}'")) => format!("key '{key}': {message}"),
            Some(_) | None => message,
        };
        Refusal { file: source.file.clone(), line: Some(line), message }
    })
}
