//! The manifest of the bundle: the resources that the machine's owner grants each guest.
//!
//! The bundle is one file: a header ([`MAGIC`] and a length), the postcard form of a [`Manifest`], zeroes to the next
//! page, and the payloads, each starting on a page. `cargo xtask` writes it from a scenario; `crate::bundle` checks it.

pub use crate::id::MAX_NAME_BYTES;
use crate::id::{CpuId, CpuSet, GuestId, MAX_CHANNELS, VcpuIndex};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// First bytes of a bundle; the digit is the format's version.
pub const MAGIC: [u8; 8] = *b"COMITYB3";
/// Bytes before the manifest: the magic and the manifest's length as a little-endian `u64`.
pub const HEADER_BYTES: usize = 16;
/// Most memory of a guest, in MiB: the window for shared pages begins at 3 GiB.
pub const MAX_MEMORY_MIB: u32 = 3072;
/// Longest command line, in bytes, without its closing zero.
pub const MAX_COMMAND_LINE_BYTES: usize = 2047;

/// The bundle's table of contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Whether the hypervisor may base published times on the machine's time-stamp counter.
    pub tsc: TscTrust,
    /// The guests, in the order of their [`GuestId`].
    pub guests: Vec<GuestConfig>,
    /// Memory that two guests share, with a doorbell each way.
    pub channels: Vec<ChannelConfig>,
}

/// Whether published times may rest on the time-stamp counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TscTrust {
    /// Only if CPUID announces an invariant counter.
    #[default]
    Invariant,
    /// Always: the owner vouches for the counter (QEMU's TCG does not announce invariance).
    Trusted,
}

/// The interface that a guest gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// An ordinary PC; CPUID does not announce Comity.
    #[default]
    Full,
    /// CPUID has Comity's leaves, and the hypervisor answers its calls.
    Cooperative,
    /// An ordinary PC with KVM's paravirtual leaves, registers and calls.
    Kvm,
}

/// The part of other guests' demand that a guest may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Nothing: YIELD_PLEASE, lag and the split of steal read zero.
    None,
    /// Whether another vCPU is waiting for the CPU.
    #[default]
    Bit,
}

/// Configuration of one guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// 1 … 16 bytes of `a-z A-Z 0-9 - _`.
    pub name: String,
    /// The interface that the guest gets.
    pub mode: Mode,
    /// Number of vCPUs, 1 … 64.
    pub vcpus: u8,
    /// RAM from guest-physical 0, in MiB, a multiple of 2 MiB, 4 … [`MAX_MEMORY_MIB`].
    pub memory_mib: u32,
    /// Limit in MiB up to which the guest may grow by MEMORY(TAKE): a multiple of 2 MiB, `memory_mib` … [`MAX_MEMORY_MIB`].
    pub memory_max_mib: u32,
    /// Share of the CPU against the other guests, 1 … 10,000.
    pub weight: u32,
    /// The part of other guests' demand that the guest may see.
    pub visibility: Visibility,
    /// Number of restarts that the hypervisor allows the guest after it was killed.
    pub restarts: u32,
    /// The kernel: a PVH ELF64.
    pub kernel: Payload,
    /// The initial RAM disk.
    pub initrd: Option<Payload>,
    /// Command line of the kernel, at most [`MAX_COMMAND_LINE_BYTES`].
    pub command_line: String,
    /// vCPU i may run on processor `pin[i % len]` only; empty: on any processor.
    pub pin: Vec<u8>,
    /// Virtio devices, of a full guest.
    pub devices: Devices,
    /// Benchmark aid: full guests may write marks to a port, which land in the telemetry as MARK does.
    pub mark_port: bool,
}

impl GuestConfig {
    /// Returns the processors that a vCPU may run on.
    pub fn allowed(&self, vcpu: VcpuIndex) -> CpuSet {
        let pinned = usize::from(vcpu.0).checked_rem(self.pin.len()).and_then(|n| self.pin.get(n));
        pinned.map_or(CpuSet::ALL, |cpu| CpuSet::one(CpuId(u16::from(*cpu))))
    }

    /// Pins each vCPU to its first processor, out of `cpus`, unless the scenario pins it already: for a machine whose
    /// processors' clocks disagree, so that no vCPU sees time go backwards.
    pub fn stay_put(&mut self, id: GuestId, cpus: u8) {
        if self.pin.is_empty() && cpus != 0 {
            let first = u8::try_from(id.0 % u16::from(cpus)).unwrap_or(0);
            self.pin = (first..cpus).chain(0..first).collect();
        }
    }
}

/// Most networks of a machine.
pub const MAX_NETWORKS: u8 = 16;
/// Most network cards of a machine: frames waiting for a card lie in the hypervisor's heap.
pub const MAX_NETWORK_CARDS: u64 = 64;
/// Most writable pages of all disks together: they lie in the hypervisor's heap too.
pub const MAX_WRITABLE_PAGES: u64 = 4096;

/// The virtio devices of a full guest; none by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Devices {
    /// A disk.
    pub disk: Option<DiskConfig>,
    /// A network card on the network of this number, below [`MAX_NETWORKS`].
    pub network: Option<u8>,
    /// A console.
    pub console: bool,
    /// A source of random bytes.
    pub entropy: bool,
    /// A balloon for reports of free memory: other guests may use the reported memory, and the guest waits if it needs it again.
    pub balloon: bool,
}

/// A disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// Initial content of the disk; its length is a multiple of 512 bytes.
    pub image: Payload,
    /// Most pages of 4 KiB that the guest may change; changes stay in RAM until the guest ends; 0: read-only.
    pub writable_pages: u32,
}

/// Location of a payload in the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// Offset from the start of the bundle, a multiple of 4096.
    pub offset_bytes: u64,
    /// Length without padding.
    pub len_bytes: u64,
}

/// Memory that two guests share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelConfig {
    /// The two ends, as indices into [`Manifest::guests`]; they may be the same guest.
    pub ends: [u16; 2],
    /// Number of shared pages, 1 … 64.
    pub pages: u16,
}

/// Most pages of all channels of a guest that sees them in the window, one channel after the other.
pub const MAX_SHOWN_PAGES: u64 = 512;

impl Mode {
    /// Returns the bound that a guest's channels exceed, if any; `mine` gives the pages of each.
    pub fn too_many_channels(self, mine: impl Iterator<Item = u16> + Clone) -> Option<TooManyChannels> {
        let (ends, pages) = (mine.clone().count(), mine.map(u64::from).sum());
        if ends > usize::from(MAX_CHANNELS) {
            Some(TooManyChannels::Ends(ends))
        } else if self != Self::Cooperative && pages > MAX_SHOWN_PAGES {
            Some(TooManyChannels::Pages(pages))
        } else {
            None
        }
    }
}

/// The bound that a guest's channels exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooManyChannels {
    /// More ends than [`MAX_CHANNELS`].
    Ends(usize),
    /// More pages than [`MAX_SHOWN_PAGES`].
    Pages(u64),
}

impl fmt::Display for TooManyChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ends(ends) => write!(f, "{ends} ends of channels, expected at most {MAX_CHANNELS}"),
            Self::Pages(pages) => write!(f, "{pages} pages of channels, expected at most {MAX_SHOWN_PAGES}"),
        }
    }
}

/// Returns the pages of each channel end that guest number `of` has, in order.
pub fn channels_of(channels: &[ChannelConfig], of: u16) -> impl Iterator<Item = u16> + Clone {
    let ends = channels.iter().flat_map(|channel| channel.ends.map(|end| (end, channel.pages)));
    ends.filter(move |(end, _)| *end == of).map(|(_, pages)| pages)
}
