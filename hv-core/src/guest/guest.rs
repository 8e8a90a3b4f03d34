//! One guest: the state that its vCPUs share.

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

/// Guest-physical base of the window for shared pages: below the APIC's and the firmware's addresses, above any RAM of this version.
pub const WINDOW_BASE: u64 = 0xc000_0000;
/// Pages in the window: as many as one lowest-level table maps.
pub const WINDOW_PAGES: u64 = 512;
const _: () = assert!(MAX_SHOWN_PAGES == WINDOW_PAGES);
/// The value of [`Life::began`] before the guest has begun.
pub const NOT_BEGUN: u64 = 0;

/// Shared frames as the rings access them. A read at an index outside returns zero and a write there has no effect; the rings compute no
/// such index.
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
    /// The devices at I/O ports, and the I/O APIC. Rank: leaf.
    pub ports: Lock<PortBus>,
    /// The virtio devices. Rank: virtio.
    pub virtio: Lock<Bus>,
    /// Bit map of the vectors whose EOI the I/O APIC must be told.
    pub level_vectors: [AtomicU64; 4],
}

/// A guest's text to and from the machine's console.
#[derive(Debug)]
pub struct Console {
    /// The hypervisor's end of the console ring; `None` until its first use. Rank: console.
    pub ring: Lock<Option<Consumer<Words>>>,
    /// The guest's unfinished line of text. Rank: line.
    pub line: Lock<heapless::Vec<u8, TEXT_BYTES>>,
    /// Typed bytes for a cooperative guest that it has not taken yet; other guests have a UART for them. Rank: leaf.
    pub input: Lock<heapless::Deque<u8, 256>>,
}

/// The state of memory that comes to a guest or leaves it.
pub struct MovingMemory<B> {
    /// The populating work left before the first vCPU enters guest mode, or before a guest that has ended leaves its memory. Rank: leaf.
    pub populating: Lock<Option<Populating>>,
    /// Blocks in transit. Rank: memory.
    pub transit: Lock<Transit<B>>,
    /// The vCPUs that may still reach memory that the guest gave back.
    pub shootdown: Shootdown,
}

/// A guest's lifecycle state.
#[derive(Debug)]
pub struct Life {
    /// The guest's phase between its start and its end. Rank: leaf.
    pub lifecycle: Lock<Lifecycle>,
    /// Whether the guest's channels are connected; writers hold [`System::channel_links`](super::system::System::channel_links).
    pub connected: AtomicBool,
    /// The number of earlier starts of the guest.
    pub generation: AtomicU64,
    /// The time-stamp counter when the guest's memory was populated in this life; [`NOT_BEGUN`] before.
    pub began: AtomicU64,
}

/// A guest. It is made once and never freed.
pub struct Guest<R: GuestRam> {
    /// The guest's number, in the order of the configuration.
    pub id: GuestId,
    /// The resources and limits that the owner of the machine grants it.
    pub config: GuestConfig,
    /// The guest's memory.
    pub ram: R,
    /// The tables that the guest shares with the hypervisor.
    pub tables: Tables,
    /// The shared view of each vCPU, by index.
    pub vcpus: Box<[&'static VcpuShared]>,
    /// The guest's ends of channels, by number.
    pub channels: Vec<ChannelEnd>,
    /// The guest's emulated devices.
    pub pc: Pc,
    /// The guest's console output, and the input typed for it.
    pub console: Console,
    /// The state of memory that comes to the guest or leaves it.
    pub memory: MovingMemory<R::Block>,
    /// The guest's lifecycle state.
    pub life: Life,
    /// Whether the time-stamp counter may be trusted for deadlines.
    pub usable_tsc: bool,
}

impl<R: GuestRam> Guest<R> {
    /// Whether CPUID announces Comity to the guest.
    #[inline]
    pub fn is_cooperative(&self) -> bool {
        self.config.mode == Mode::Cooperative
    }

    /// Whether the guest may use KVM's paravirtual interface.
    #[inline]
    pub fn is_kvm(&self) -> bool {
        self.config.mode == Mode::Kvm
    }

    /// The vCPU of that index; `None` when the guest has none.
    #[inline]
    pub fn vcpu(&self, index: u64) -> Option<&'static VcpuShared> {
        usize::try_from(index).ok().and_then(|index| self.vcpus.get(index)).copied()
    }

    /// The number of the guest's vCPUs.
    pub fn vcpu_count(&self) -> u8 {
        self.config.vcpus
    }

    /// The features of the ABI that this version offers the guest.
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

    /// Whether the guest may learn that another vCPU waits for its CPU.
    pub fn shows_waiters(&self) -> bool {
        self.config.visibility != crate::image::manifest::Visibility::None
    }

    /// Whether the I/O APIC must be told of the EOI of an interrupt with this vector.
    #[inline]
    pub fn is_level(&self, vector: u8) -> bool {
        let word = self.pc.level_vectors.get(usize::from(vector >> 6));
        word.is_some_and(|word| word.load(Relaxed) >> (vector & 63) & 1 != 0)
    }

    /// Replaces the bit map that [`Self::is_level`] reads.
    pub fn set_level_vectors(&self, vectors: &[u64; 4]) {
        for (word, vectors) in self.pc.level_vectors.iter().zip(vectors) {
            word.store(*vectors, Relaxed);
        }
    }

    /// The vCPUs that receive an interrupt, as a bit map by index; `sender` is an APIC id, which equals the vCPU's index.
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

    /// The parameters from which the guest's devices are made.
    pub fn bus_setup(&self, tsc: Frequency, now: Tsc, unix_s: u64) -> bus::Setup {
        let channels = self.placements().collect();
        bus::Setup { tsc, now, unix_s, memory_mib: self.config.memory_mib, channels }
    }

    /// The places of a full guest's channels: one after the other in the window.
    fn placements(&self) -> impl Iterator<Item = Placement> {
        let mut next = WINDOW_BASE;
        self.channels.iter().map(move |end| {
            let pages = u16::try_from(end.frames.words.len() * 8 / 4096).unwrap_or(0);
            let at = GuestPhys::new_truncate(next);
            next += u64::from(pages) * PAGE_BYTES;
            Placement { at, pages }
        })
    }

    /// Places the channels in the window, unless the guest is cooperative: a cooperative guest places them itself.
    pub fn place_channels(&self) {
        if !self.is_cooperative() {
            for (end, placement) in self.channels.iter().zip(self.placements()) {
                let _ = self.place(end.frames, true, placement.at);
            }
        }
    }

    /// Places `frames` in the window at `at`. False, and nothing is placed, when they do not fit or a page there is taken.
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
