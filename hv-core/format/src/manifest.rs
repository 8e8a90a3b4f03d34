//! What the owner of the machine grants each guest: the manifest of the bundle.
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
    /// What the machine's time-stamp counter may be used for.
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
    /// Only when CPUID announces an invariant one.
    #[default]
    Invariant,
    /// Always: the owner says so (QEMU's TCG does not announce invariance).
    Trusted,
}

/// How a guest is virtualized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// An ordinary PC; nothing of Comity is announced.
    #[default]
    Full,
    /// Comity's leaves are announced and its calls answered.
    Cooperative,
    /// As full, with KVM's paravirtual leaves, registers and calls.
    Kvm,
}

/// What a guest may see of the demand of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Nothing: YIELD_PLEASE, lag and the split of steal read zero.
    None,
    /// Whether somebody waits for the CPU.
    #[default]
    Bit,
}

/// One guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// 1 … 16 bytes of `a-z A-Z 0-9 - _`.
    pub name: String,
    /// How it is virtualized.
    pub mode: Mode,
    /// 1 … 64.
    pub vcpus: u8,
    /// RAM from guest-physical 0, a multiple of 2 MiB, 4 … [`MAX_MEMORY_MIB`].
    pub memory_mib: u32,
    /// How far it may grow by MEMORY(TAKE): a multiple of 2 MiB, `memory_mib` … [`MAX_MEMORY_MIB`].
    pub memory_max_mib: u32,
    /// Share of the CPU against the other guests, 1 … 10,000.
    pub weight: u32,
    /// What it may see.
    pub visibility: Visibility,
    /// How often it is started again after it was killed.
    pub restarts: u32,
    /// The kernel: a PVH ELF64.
    pub kernel: Payload,
    /// The initial RAM disk.
    pub initrd: Option<Payload>,
    /// Passed to the kernel.
    pub command_line: String,
    /// vCPU i may run on processor `pin[i % len]` only; empty: anywhere.
    pub pin: Vec<u8>,
    /// Virtio devices, of a full guest.
    pub devices: Devices,
    /// Benchmark aid: full guests may write marks to a port, which land in the telemetry as MARK does.
    pub mark_port: bool,
}

impl GuestConfig {
    /// The processors that a vCPU may run on.
    pub fn allowed(&self, vcpu: VcpuIndex) -> CpuSet {
        let pinned = usize::from(vcpu.0).checked_rem(self.pin.len()).and_then(|n| self.pin.get(n));
        pinned.map_or(CpuSet::ALL, |cpu| CpuSet::one(CpuId(u16::from(*cpu))))
    }

    /// Has each vCPU stay where it starts, of so many processors, unless the scenario says where: for a machine whose
    /// processors' clocks disagree, so that time goes backwards for nobody.
    pub fn stay_put(&mut self, id: GuestId, cpus: u8) {
        if self.pin.is_empty() && cpus != 0 {
            let first = u8::try_from(id.0 % u16::from(cpus)).unwrap_or(0);
            self.pin = (first..cpus).chain(0..first).collect();
        }
    }
}

/// Most networks of a machine.
pub const MAX_NETWORKS: u8 = 16;
/// Most network cards of a machine: frames that wait for them lie in the hypervisor's heap.
pub const MAX_NETWORK_CARDS: u64 = 64;
/// Most pages of all disks that may be changed: they lie there too.
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
    /// A balloon for reports of free memory: others may have what was reported, and the guest waits for it then.
    pub balloon: bool,
}

/// A disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// What is on it: a multiple of 512 bytes.
    pub image: Payload,
    /// Pages of 4 KiB that may be changed, in RAM and until the guest ends; 0: read-only.
    pub writable_pages: u32,
}

/// Where a payload lies in the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// From the start of the bundle, a multiple of 4096.
    pub offset_bytes: u64,
    /// Without padding.
    pub len_bytes: u64,
}

/// Memory two guests share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelConfig {
    /// The two ends, as indices into [`Manifest::guests`]; they may be the same guest.
    pub ends: [u16; 2],
    /// 1 … 64.
    pub pages: u16,
}

/// Most pages of all channels of a guest that is shown them in the window, one channel after the other.
pub const MAX_SHOWN_PAGES: u64 = 512;

impl Mode {
    /// Whether a guest's channels, `mine` by their pages, are more than it can reach: which of the two bounds they break.
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

/// What a guest's channels have too much of.
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

/// The pages of each end that guest number `of` has, in order.
pub fn channels_of(channels: &[ChannelConfig], of: u16) -> impl Iterator<Item = u16> + Clone {
    let ends = channels.iter().flat_map(|channel| channel.ends.map(|end| (end, channel.pages)));
    ends.filter(move |(end, _)| *end == of).map(|(_, pages)| pages)
}
