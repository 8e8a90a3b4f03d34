//! The part of each processor's state that the others may read: its mailbox, its numbers of waiting vCPUs, its counters, and whether it
//! is idle.

use crate::base::id::{CpuId, CpuSet, GuestId, MAX_GUESTS};
use crate::base::time::{Ticks, Tsc};
use crate::policy::balance::PART;
use crate::policy::mailbox::Mailbox;
use crate::policy::sched::Slot;
use crate::policy::trace::CpuTally;
use alloc::boxed::Box;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicU32, AtomicU64};

/// The shared state of one processor.
#[derive(Debug)]
pub struct CpuShared {
    /// Notifications for this processor; the other processors write it.
    pub mailbox: Mailbox,
    /// The processor's counters; it writes them itself.
    pub tally: CpuTally,
    /// The [`NameTag`] of the vCPU that runs here.
    running: AtomicU32,
    /// The packed [`Queued`] of this processor.
    queued: AtomicU32,
    /// TSC before which no other guest may cause an interruption of the running vCPU again.
    quiet_until: AtomicU64,
    /// By guest: the average number of its vCPUs that run or wait here, in parts (`policy::balance`).
    present: Box<[AtomicU32]>,
}

/// Numbers of vCPUs that wait for a processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Queued {
    /// Number of all waiting vCPUs.
    pub waiting: u16,
    /// Upper bound of the number of waiting vCPUs that may run on another processor.
    pub spare: u16,
}

impl Queued {
    const fn pack(self) -> u32 {
        (self.waiting as u32) << 16 | self.spare as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "each is one half of the word")]
    const fn unpack(word: u32) -> Self {
        Self { waiting: (word >> 16) as u16, spare: word as u16 }
    }
}

/// A vCPU's slot and guest in one word, by which a processor publishes the vCPU that it runs. It is made once per vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameTag(u32);

impl NameTag {
    /// The tag of no vCPU.
    pub const NOBODY: Self = Self(0);

    /// The tag of the vCPU in `slot`, of `guest`.
    pub const fn of(slot: Slot, guest: GuestId) -> Self {
        Self(1 << 31 | (guest.0 as u32) << 16 | slot.0 as u32)
    }

    /// The vCPU's slot and guest; `None` for [`Self::NOBODY`].
    #[expect(clippy::cast_possible_truncation, reason = "each is one half of the word")]
    const fn read(self) -> Option<(Slot, GuestId)> {
        let (slot, guest) = (Slot(self.0 as u16), GuestId((self.0 >> 16) as u16 & (MAX_GUESTS as u16 - 1)));
        if self.0 >> 31 != 0 { Some((slot, guest)) } else { None }
    }
}

/// The shared state of all processors.
#[derive(Debug)]
pub struct CpuTable {
    cpus: Box<[CpuShared]>,
    /// Bit n: processor n is idle, and no other processor has claimed it.
    idle: AtomicU64,
}

impl CpuTable {
    /// The table of `cpus` processors, 1 … 64.
    pub fn new(cpus: u8) -> Self {
        let cpu = |_| CpuShared {
            mailbox: Mailbox::new(|| AtomicU64::new(0)),
            tally: CpuTally::default(),
            running: AtomicU32::new(0),
            queued: AtomicU32::new(0),
            quiet_until: AtomicU64::new(0),
            present: (0..MAX_GUESTS).map(|_| AtomicU32::new(0)).collect(),
        };
        Self { cpus: (0..cpus.clamp(1, 64)).map(cpu).collect(), idle: AtomicU64::new(0) }
    }

    /// A processor's shared state; that of the first processor, if the machine does not have `cpu`.
    pub fn cpu(&self, cpu: CpuId) -> &CpuShared {
        self.cpus.get(usize::from(cpu.0)).unwrap_or(&self.cpus[0])
    }

    /// The shared state of all processors, by number.
    pub fn iter(&self) -> impl Iterator<Item = (CpuId, &CpuShared)> {
        (0..).map(CpuId).zip(&self.cpus)
    }

    /// The set of the machine's processors.
    pub fn cpus(&self) -> CpuSet {
        CpuSet(u64::MAX >> (64 - self.cpus.len()))
    }

    /// Whether the machine has only one processor.
    pub fn is_alone(&self) -> bool {
        self.cpus.len() == 1
    }

    /// The set of idle processors.
    #[inline]
    pub fn idle(&self) -> CpuSet {
        CpuSet(self.idle.load(Relaxed))
    }

    /// Publishes that this processor is idle. A full barrier: a processor that publishes spare vCPUs afterwards sees the idle processor,
    /// or the idle processor sees those vCPUs.
    pub fn rest(&self, cpu: CpuId) {
        self.idle.fetch_or(CpuSet::one(cpu).0, SeqCst);
    }

    /// Publishes that this processor is no longer idle.
    pub fn rise(&self, cpu: CpuId) {
        self.idle.fetch_and(!CpuSet::one(cpu).0, SeqCst);
    }

    /// Claims an idle processor for a vCPU; false when another processor claimed it first.
    pub fn claim(&self, cpu: CpuId) -> bool {
        self.idle.fetch_and(!CpuSet::one(cpu).0, SeqCst) & CpuSet::one(cpu).0 != 0
    }

    /// The processor with the most spare vCPUs; `None` when no processor has one.
    pub fn busiest(&self) -> Option<CpuId> {
        let spare = self.iter().map(|(id, cpu)| (cpu.queued().spare, id));
        spare.filter(|(spare, _)| *spare != 0).max().map(|(_, id)| id)
    }
}

impl CpuShared {
    /// Publishes the vCPU that runs on this processor.
    #[inline]
    pub fn publish_running(&self, vcpu: NameTag) {
        self.running.store(vcpu.0, Relaxed);
    }

    /// Publishes the numbers of vCPUs that wait here. A full barrier before a look at [`CpuTable::idle`].
    pub fn publish_queued(&self, queued: Queued) {
        self.queued.swap(queued.pack(), SeqCst);
    }

    /// Claims the right to interrupt the vCPU that runs here. `cause` is the guest whose act causes the interruption, not the guest that
    /// benefits from it; `None`: no particular guest. A guest may always interrupt its own vCPUs, and any guest may interrupt a processor
    /// on which no vCPU runs; all other interruptions together are limited to one per `period`.
    ///
    /// # Errors
    ///
    /// The time from which on the next such interruption is allowed.
    pub fn disturb(&self, cause: Option<GuestId>, now: Tsc, period: Ticks) -> Result<(), Tsc> {
        if self.running().is_none_or(|(_, runner)| Some(runner) == cause) {
            return Ok(());
        }
        let until = self.quiet_until.load(Relaxed);
        let claimed = now.0 >= until
            && self.quiet_until.compare_exchange(until, (now + period).0, Relaxed, Relaxed).is_ok();
        if claimed { Ok(()) } else { Err(Tsc(self.quiet_until.load(Relaxed))) }
    }

    /// The time before which no other guest may cause an interruption of the running vCPU.
    pub fn quiet_until(&self) -> Tsc {
        Tsc(self.quiet_until.load(Relaxed))
    }

    /// Notes that the running vCPU was interrupted because of another guest, which is not allowed again before `until`.
    pub fn be_quiet(&self, until: Tsc) {
        self.quiet_until.fetch_max(until.0, Relaxed);
    }

    /// The vCPU that runs here, and its guest.
    pub fn running(&self) -> Option<(Slot, GuestId)> {
        NameTag(self.running.load(Relaxed)).read()
    }

    /// The numbers of vCPUs that wait here.
    pub fn queued(&self) -> Queued {
        Queued::unpack(self.queued.load(Relaxed))
    }

    /// The average number of a guest's vCPUs that run or wait here, in parts, as this processor last counted.
    pub fn counted(&self, guest: GuestId) -> u32 {
        self.present.get(usize::from(guest.0)).map_or(0, |present| present.load(Relaxed))
    }

    /// Publishes a new count for [`Self::counted`].
    pub fn count(&self, guest: GuestId, present: u32) {
        if let Some(place) = self.present.get(usize::from(guest.0)) {
            place.store(present, Relaxed);
        }
    }

    /// The number of a guest's vCPUs that run or wait here, in parts. A processor for which no vCPU waits does not update its count:
    /// there, only the running vCPU is present.
    pub fn present(&self, guest: GuestId) -> u32 {
        match self.queued().waiting {
            0 => u32::from(self.running().is_some_and(|(_, running)| running == guest)) * PART,
            _ => self.counted(guest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_processor_is_claimed_once() {
        let cpu_table = CpuTable::new(3);
        assert_eq!(cpu_table.cpus(), CpuSet(0b111));
        cpu_table.rest(CpuId(2));
        assert!(cpu_table.idle().has(CpuId(2)));
        assert!(cpu_table.claim(CpuId(2)));
        assert!(!cpu_table.claim(CpuId(2)));
        assert_eq!(cpu_table.idle(), CpuSet(0));
    }

    #[test]
    fn the_busiest_has_most_to_give() {
        let cpu_table = CpuTable::new(3);
        assert_eq!(cpu_table.busiest(), None);
        for (cpu, spare) in [(1, 2), (2, 1)] {
            cpu_table.cpu(CpuId(cpu)).publish_queued(Queued { waiting: 3, spare });
        }
        assert_eq!(cpu_table.busiest(), Some(CpuId(1)));
    }

    #[test]
    fn who_runs_is_interrupted_for_others_once_in_a_period_and_for_its_own_guest_always() {
        let cpu_table = CpuTable::new(1);
        let cpu = cpu_table.cpu(CpuId(0));
        let disturb = |guest, now| cpu.disturb(Some(GuestId(guest)), Tsc(now), Ticks(50)).err();
        assert_eq!([disturb(1, 0), disturb(2, 0)], [None, None], "nobody runs");
        cpu.publish_running(NameTag::of(Slot(9), GuestId(4)));
        assert_eq!(disturb(1, 100), None);
        assert_eq!([disturb(1, 101), disturb(2, 149)], [Some(Tsc(150)); 2]);
        assert_eq!(disturb(4, 101), None);
        assert_eq!([disturb(2, 150), disturb(1, 150)], [None, Some(Tsc(200))]);
        cpu.be_quiet(Tsc(250));
        cpu.be_quiet(Tsc(240));
        assert_eq!([disturb(1, 200), disturb(4, 200)], [Some(Tsc(250)), None]);
        assert_eq!(cpu.disturb(None, Tsc(200), Ticks(50)), Err(Tsc(250)));
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let queued = Queued { waiting: 1023, spare: 7 };
        assert_eq!(Queued::unpack(queued.pack()), queued);
        for running in [(Slot(0), GuestId(0)), (Slot(1023), GuestId(255))] {
            assert_eq!(NameTag::of(running.0, running.1).read(), Some(running));
        }
        assert_eq!(NameTag::NOBODY.read(), None);
    }

    #[test]
    fn where_nobody_waits_whoever_runs_is_present() {
        let cpu_table = CpuTable::new(1);
        let cpu = cpu_table.cpu(CpuId(0));
        cpu.count(GuestId(3), 5 * PART);
        cpu.publish_running(NameTag::of(Slot(9), GuestId(4)));
        assert_eq!([3, 4].map(|guest| cpu.present(GuestId(guest))), [0, PART]);
        cpu.publish_queued(Queued { waiting: 1, spare: 0 });
        assert_eq!([3, 4].map(|guest| cpu.present(GuestId(guest))), [5 * PART, 0]);
    }
}
