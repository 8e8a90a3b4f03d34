//! The state that all processors share: the guests, the table of processors, the records. It is made before any guest runs, and never
//! freed.

use crate::base::hardware::GuestRam;
use crate::base::id::{CpuId, CpuSet, GuestId};
use crate::base::lock::{Lock, Rank};
use crate::base::time::Frequency;
use crate::guest::guest::Guest;
use crate::guest::virtio_bus::Network;
use crate::image::load::Image;
use crate::policy::cpu_shared::CpuTable;
use crate::policy::sched::Slot;
use crate::policy::telemetry::Telemetry;
use crate::policy::trace::GuestCounters;
use crate::policy::turns::Turns;
use crate::policy::vcpu_shared::VcpuShared;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize};

/// Heaviest weight of an entity in a run queue.
const MAX_WEIGHT: u32 = 10_000;
/// Upper limit of the number of parts into which a guest's weight is split.
const MOST_SHARES: u32 = 64;

/// The state that belongs to no single processor.
pub struct System<R: GuestRam + 'static> {
    /// All guests, by id.
    pub guests: Vec<&'static Guest<R>>,
    /// All vCPUs, by slot.
    pub vcpus: Vec<&'static VcpuShared>,
    /// The image from which each guest starts and restarts, by guest id.
    pub images: Vec<Image>,
    /// The switches that connect guests' network cards, by number.
    pub networks: Vec<Network>,
    /// The part of each processor's state that the others may read.
    pub cpu_table: CpuTable,
    /// Records that are not written yet.
    pub telemetry: Lock<Telemetry>,
    /// The order in which guests write to the machine's console.
    pub turns: Lock<Turns>,
    /// A processor holds this lock while it connects or cuts guests' channels.
    pub channel_links: Lock<()>,
    /// Blocks of memory that no guest has.
    pub pool: Lock<Vec<R::Block>>,
    /// The time-stamp counter's frequency.
    pub tsc: Frequency,
    /// Unix time in ns when the time-stamp counter was zero.
    pub wall_ns: u64,
    /// The guest that receives typed input.
    pub input_guest: GuestId,
    /// Whether that guest's output is shown as it comes, without its name, because a person sits at a terminal.
    pub has_terminal: bool,
    /// The number of parts into which weights are split among processors.
    finest: u32,
    /// Number of guests that have not ended for good.
    alive: AtomicUsize,
    /// Whether any guest ended badly.
    ill: AtomicBool,
    /// The last cookie given out.
    last_cookie: AtomicU16,
}

impl<R: GuestRam> System<R> {
    /// A machine of `cpus` processors, without guests.
    pub fn new(cpus: u8, tsc: Frequency, wall_ns: u64) -> Self {
        Self {
            guests: Vec::new(),
            vcpus: Vec::new(),
            images: Vec::new(),
            networks: Vec::new(),
            cpu_table: CpuTable::new(cpus),
            telemetry: Lock::new(Rank::Leaf, Telemetry::default()),
            turns: Lock::new(Rank::Leaf, Turns::new(tsc)),
            channel_links: Lock::new(Rank::ChannelLinks, ()),
            pool: Lock::new(Rank::Leaf, Vec::new()),
            tsc,
            wall_ns,
            input_guest: GuestId(0),
            has_terminal: false,
            finest: 1,
            alive: AtomicUsize::new(0),
            ill: AtomicBool::new(false),
            last_cookie: AtomicU16::new(0),
        }
    }

    /// Takes the machine's free memory into the pool, and reserves room for every block that guests may give back.
    pub fn fill_pool(&mut self, blocks: Vec<R::Block>) {
        let room: u64 = self.guests.iter().map(|guest| guest.ram.block_count()).sum();
        let mut pool = self.pool.lock();
        *pool = blocks;
        pool.reserve_exact(usize::try_from(room).unwrap_or(0));
    }

    /// Adds the next guest, which has not begun yet.
    pub fn add(&mut self, guest: &'static Guest<R>) {
        self.vcpus.extend(guest.vcpus.iter());
        self.guests.push(guest);
        self.turns.lock().add();
        self.alive.fetch_add(1, SeqCst);
        if !self.cpu_table.is_alone() {
            let heaviest = self.guests.iter().map(|guest| guest.config.weight).max().unwrap_or(1);
            self.finest = (MAX_WEIGHT / heaviest.max(1)).clamp(1, MOST_SHARES);
        }
    }

    /// The vCPU of a slot. A vCPU has the same slot in every processor's table.
    #[inline]
    pub fn vcpu(&self, slot: Slot) -> Option<&'static VcpuShared> {
        self.vcpus.get(usize::from(slot.0)).copied()
    }

    /// The guest with this id; `None` when the machine has none.
    pub fn guest(&self, id: GuestId) -> Option<&'static Guest<R>> {
        self.guests.get(usize::from(id.0)).copied()
    }

    /// The image from which a guest starts and restarts.
    pub fn image(&self, id: GuestId) -> Option<&Image> {
        self.images.get(usize::from(id.0))
    }

    /// The processor on which a vCPU starts, among those that it may run on. Each guest begins at a different processor and its vCPUs
    /// go round from there, so that vCPUs that start together do not start on one processor.
    pub fn home(&self, vcpu: &VcpuShared) -> CpuId {
        let allowed = vcpu.allowed.both(self.cpu_table.cpus());
        let cpus = u16::try_from(self.cpu_table.cpus().0.count_ones()).unwrap_or(1);
        let wish = (vcpu.id.guest.0 % cpus + u16::from(vcpu.index().0)) % cpus;
        allowed.next_from(CpuId(wish)).unwrap_or_default()
    }

    /// The number of parts into which weights are split among processors: as many as the largest weight allows, and 1 where there is
    /// only one processor.
    pub const fn finest_weight(&self) -> u32 {
        self.finest
    }

    /// Whether the machine has a processor that is in `allowed`.
    pub fn can_run(&self, allowed: CpuSet) -> bool {
        allowed.both(self.cpu_table.cpus()) != CpuSet(0)
    }

    /// A cookie that no vCPU has had for a long time. It is never 0, so that a zeroed row matches no cookie.
    pub fn new_cookie(&self) -> u16 {
        loop {
            let cookie = self.last_cookie.fetch_add(1, Relaxed).wrapping_add(1);
            if cookie != 0 {
                return cookie;
            }
        }
    }

    /// A guest's counters: the sums over its vCPUs.
    pub fn counters(&self, guest: &Guest<R>) -> GuestCounters {
        let mut sum = GuestCounters::default();
        for vcpu in &guest.vcpus {
            sum.add(&vcpu.tally.counters());
        }
        sum
    }

    /// Counts a guest that has ended for good; true when it was the last.
    pub fn guest_is_over(&self) -> bool {
        self.alive.fetch_sub(1, SeqCst) == 1
    }

    /// Notes that a guest ended badly.
    pub fn note_bad_end(&self) {
        self.ill.store(true, Relaxed);
    }

    /// Whether at least one guest has not ended for good.
    #[inline]
    pub fn is_alive(&self) -> bool {
        self.alive.load(Relaxed) != 0
    }

    /// Whether no guest ended badly.
    pub fn is_well(&self) -> bool {
        !self.ill.load(Relaxed)
    }
}
