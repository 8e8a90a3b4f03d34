//! One guest: what its vCPUs have in common.

use crate::base::addr::{GuestPhys, PAGE_BYTES};
use crate::base::hardware::{GuestRam, SharedWords};
use crate::base::id::GuestId;
use crate::base::lock::Lock;
use crate::base::time::{Frequency, Tsc};
use crate::device::bus::{self, PortBus};
use crate::device::channel::Placement;
use crate::device::lapic::Destination;
use crate::guest::channel_end::ChannelEnd;
use crate::guest::lifecycle::Lifecycle;
use crate::guest::populate::Populating;
use crate::guest::transit::Transit;
use crate::guest::virtio_bus::Bus;
use crate::image::manifest::{GuestConfig, MAX_SHOWN_PAGES, Mode};
use crate::policy::mm::shootdown::Shootdown;
use crate::policy::turns::TEXT_BYTES;
use crate::policy::vcpu_shared::{SharedFrames, Tables, VcpuShared};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU64};
use pv_abi::cpuid::Features;
use ring_buffers::Memory;
use ring_buffers::bytes::Consumer;

/// Where the window for shared pages begins: below the APIC's and the firmware's addresses, above any RAM of this version.
pub const WINDOW_BASE: u64 = 0xc000_0000;
/// Pages in the window: what one lowest-level table maps.
pub const WINDOW_PAGES: u64 = 512;
const _: () = assert!(MAX_SHOWN_PAGES == WINDOW_PAGES);
/// See [`Life::began`].
pub const NOT_BEGUN: u64 = 0;

/// Shared frames as the rings see them. An index outside reads zero and writes nothing; the rings compute none.
#[derive(Clone, Copy, Debug)]
pub struct Words(pub SharedWords);

impl Words {
    fn word(&self, index: usize) -> Option<&'static AtomicU64> {
        self.0.get(index)
    }
}

impl Memory for Words {
    fn words(&self) -> usize {
        self.0.len()
    }
    fn load(&self, index: usize) -> u64 {
        self.word(index).map_or(0, |word| word.load(Relaxed))
    }
    fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.word(index) {
            word.store(value, Relaxed);
        }
    }
    fn load_acquire(&self, index: usize) -> u64 {
        self.word(index).map_or(0, |word| word.load(Acquire))
    }
    fn store_release(&self, index: usize, value: u64) {
        if let Some(word) = self.word(index) {
            word.store(value, Release);
        }
    }
}

/// A guest's emulated devices.
pub struct Pc {
    /// Those of ports, and the I/O APIC. Rank: leaf.
    pub ports: Lock<PortBus>,
    /// Those of virtio. Rank: virtio.
    pub virtio: Lock<Bus>,
    /// Vectors whose end the I/O APIC wants to know.
    pub level_vectors: [AtomicU64; 4],
}

/// A guest's console, as people see it.
#[derive(Debug)]
pub struct Console {
    /// The hypervisor's end of the console ring, once it was used. Rank: console.
    pub ring: Lock<Option<Consumer<Words>>>,
    /// The part of a line that has not ended. Rank: line.
    pub line: Lock<heapless::Vec<u8, TEXT_BYTES>>,
    /// Bytes that people typed and that no UART took yet, for a cooperative guest. Rank: leaf.
    pub input: Lock<heapless::Deque<u8, 256>>,
}

/// Memory that comes to a guest, or leaves it.
pub struct MovingMemory<B> {
    /// What is left to do before the first vCPU enters guest mode, or before a guest that has ended leaves its memory. Rank: leaf.
    pub populating: Lock<Option<Populating>>,
    /// Blocks that are on their way. Rank: memory.
    pub transit: Lock<Transit<B>>,
    /// Which vCPUs may still reach memory that was taken away.
    pub shootdown: Shootdown,
}

/// How far a guest is in its life.
#[derive(Debug)]
pub struct Life {
    /// Where it is between its start and its end. Rank: leaf.
    pub lifecycle: Lock<Lifecycle>,
    /// Whether its channels are connected; changes under [`System::channel_links`](super::system::System::channel_links) only.
    pub connected: AtomicBool,
    /// How often it was started before.
    pub generation: AtomicU64,
    /// The time-stamp counter when its memory was done, in this life; [`NOT_BEGUN`] before.
    pub began: AtomicU64,
}

/// A guest. Made once and never freed.
pub struct Guest<R: GuestRam> {
    /// Which.
    pub id: GuestId,
    /// What the owner of the machine grants it.
    pub config: GuestConfig,
    /// Its memory.
    pub ram: R,
    /// What it shares with the hypervisor.
    pub tables: Tables,
    /// The shared view of each vCPU.
    pub vcpus: Box<[&'static VcpuShared]>,
    /// Its channels.
    pub channels: Vec<ChannelEnd>,
    /// Its devices.
    pub pc: Pc,
    /// What it writes to people, and what they type.
    pub console: Console,
    /// Memory of it that changes hands.
    pub memory: MovingMemory<R::Block>,
    /// How far it is in its life.
    pub life: Life,
    /// Whether the time-stamp counter may be trusted for deadlines.
    pub usable_tsc: bool,
}

impl<R: GuestRam> Guest<R> {
    /// Whether Comity is announced to it.
    #[inline]
    pub fn is_cooperative(&self) -> bool {
        self.config.mode == Mode::Cooperative
    }

    /// Whether it may use KVM's paravirtual interface.
    #[inline]
    pub fn is_kvm(&self) -> bool {
        self.config.mode == Mode::Kvm
    }

    /// A vCPU, or `None` when there is none of that index.
    #[inline]
    pub fn vcpu(&self, index: u64) -> Option<&'static VcpuShared> {
        usize::try_from(index).ok().and_then(|index| self.vcpus.get(index)).copied()
    }

    /// How many vCPUs it has.
    pub fn vcpu_count(&self) -> u8 {
        self.config.vcpus
    }

    /// What this version offers it.
    pub fn features(&self) -> Features {
        let mut features = Features::DEMAND
            | Features::STATUS
            | Features::EVENTS
            | Features::CRITICAL
            | Features::YIELD_TO
            | Features::CONSOLE_RING
            | Features::VCPU_CONTROL
            | Features::MEMORY;
        features.set(Features::ARM_BY_STORE, self.usable_tsc);
        features.set(Features::YIELD_PLEASE, self.shows_waiters());
        features.set(Features::CHANNELS, !self.channels.is_empty());
        features
    }

    /// Whether it may know that somebody waits for its CPU.
    pub fn shows_waiters(&self) -> bool {
        self.config.visibility != crate::image::manifest::Visibility::None
    }

    /// Whether the end of an interrupt with this vector is to be told to the I/O APIC.
    #[inline]
    pub fn is_level(&self, vector: u8) -> bool {
        let word = self.pc.level_vectors.get(usize::from(vector >> 6));
        word.is_some_and(|word| word.load(Relaxed) >> (vector & 63) & 1 != 0)
    }

    /// Which those are may have changed.
    pub fn set_level_vectors(&self, vectors: &[u64; 4]) {
        for (word, vectors) in self.pc.level_vectors.iter().zip(vectors) {
            word.store(*vectors, Relaxed);
        }
    }

    /// The vCPUs that an interrupt is for, as a bit map by index; `sender` is an APIC id, which is the index.
    #[inline]
    pub fn receivers(&self, to: Destination, sender: u32) -> u64 {
        if let Destination::Flat(mask) = to {
            return self.flat_receivers(mask);
        }
        to.receivers(sender, u32::from(self.vcpu_count()))
    }

    #[cold]
    fn flat_receivers(&self, mask: u8) -> u64 {
        let ids = self.vcpus.iter().map(|vcpu| vcpu.flat_id.load(Relaxed));
        ids.zip(0..64).fold(0, |set, (id, n)| set | u64::from(id & mask != 0) << n)
    }

    /// What its devices are made from.
    pub fn bus_setup(&self, tsc: Frequency, now: Tsc, unix_s: u64) -> bus::Setup {
        let channels = self.placements().collect();
        bus::Setup { tsc, now, unix_s, memory_mib: self.config.memory_mib, channels }
    }

    /// Where a full guest finds its channels: one after the other in the window.
    fn placements(&self) -> impl Iterator<Item = Placement> {
        let mut next = WINDOW_BASE;
        self.channels.iter().map(move |end| {
            let pages = u16::try_from(end.frames.words.len() * 8 / 4096).unwrap_or(0);
            let at = GuestPhys::new_truncate(next);
            next += u64::from(pages) * PAGE_BYTES;
            Placement { at, pages }
        })
    }

    /// Shows a full guest its channels; a cooperative one places them itself.
    pub fn place_channels(&self) {
        if !self.is_cooperative() {
            for (end, placement) in self.channels.iter().zip(self.placements()) {
                let _ = self.place(end.frames, true, placement.at);
            }
        }
    }

    /// Places `frames` in the window at `at`. Nothing is placed unless everything fits.
    pub fn place(&self, frames: SharedFrames, writable: bool, at: GuestPhys) -> bool {
        let pages = frames.words.len() as u64 * 8 / PAGE_BYTES;
        let first = at.raw().wrapping_sub(WINDOW_BASE) / PAGE_BYTES;
        if at.raw() < WINDOW_BASE || !at.is_aligned(PAGE_BYTES) || first + pages > WINDOW_PAGES {
            return false;
        }
        let range = first..first + pages;
        if !range.clone().all(|page| self.ram.window_is_free(page)) {
            return false;
        }
        for (page, n) in range.zip(0..) {
            if let Some(frame) = frames.start.checked_add(n * PAGE_BYTES) {
                self.ram.place_in_window(page, frame, writable);
            }
        }
        true
    }
}
