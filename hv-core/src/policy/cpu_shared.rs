//! What each processor shows the others: its mailbox, how many wait for it, what it counted, whether it is idle.

use crate::base::id::{CpuId, CpuSet, GuestId, MAX_GUESTS};
use crate::base::time::{Ticks, Tsc};
use crate::policy::balance::PART;
use crate::policy::mailbox::Mailbox;
use crate::policy::sched::Slot;
use crate::policy::trace::CpuTally;
use alloc::boxed::Box;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicU32, AtomicU64};

/// One processor.
#[derive(Debug)]
pub struct CpuShared {
    /// Others write.
    pub mailbox: Mailbox,
    /// What it counted.
    pub tally: CpuTally,
    /// A [`NameTag`].
    running: AtomicU32,
    /// A [`Queued`], packed.
    queued: AtomicU32,
    /// Before this, whoever runs here is not interrupted once more because of another guest: a TSC.
    quiet_until: AtomicU64,
    /// By guest: how many of its vCPUs run or wait here, on average, in parts (`policy::balance`).
    present: Box<[AtomicU32]>,
}

/// vCPUs that wait for a processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Queued {
    /// All of them.
    pub waiting: u16,
    /// Those of them that could run elsewhere, at most.
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

/// A vCPU as its processor names it to the others: its slot and its guest in one word, made once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameTag(u32);

impl NameTag {
    /// Nobody's.
    pub const NOBODY: Self = Self(0);

    /// A vCPU's.
    pub const fn of(slot: Slot, guest: GuestId) -> Self {
        Self(1 << 31 | (guest.0 as u32) << 16 | slot.0 as u32)
    }

    /// Whose it is.
    #[expect(clippy::cast_possible_truncation, reason = "each is one half of the word")]
    const fn read(self) -> Option<(Slot, GuestId)> {
        let (slot, guest) = (Slot(self.0 as u16), GuestId((self.0 >> 16) as u16 & (MAX_GUESTS as u16 - 1)));
        if self.0 >> 31 != 0 { Some((slot, guest)) } else { None }
    }
}

/// All processors.
#[derive(Debug)]
pub struct CpuTable {
    cpus: Box<[CpuShared]>,
    /// Bit n: processor n has nothing to do and nobody has sent it anything.
    idle: AtomicU64,
}

impl CpuTable {
    /// The board of so many processors, 1 … 64.
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

    /// A processor's line; the first one's for a processor that is not there.
    pub fn cpu(&self, cpu: CpuId) -> &CpuShared {
        self.cpus.get(usize::from(cpu.0)).unwrap_or(&self.cpus[0])
    }

    /// All lines, by processor.
    pub fn iter(&self) -> impl Iterator<Item = (CpuId, &CpuShared)> {
        (0..).map(CpuId).zip(&self.cpus)
    }

    /// The processors there are.
    pub fn cpus(&self) -> CpuSet {
        CpuSet(u64::MAX >> (64 - self.cpus.len()))
    }

    /// Whether there is only one processor.
    pub fn is_alone(&self) -> bool {
        self.cpus.len() == 1
    }

    /// The processors with nothing to do.
    #[inline]
    pub fn idle(&self) -> CpuSet {
        CpuSet(self.idle.load(Relaxed))
    }

    /// This processor has nothing to do. A full barrier: whoever has spare vCPUs afterwards sees it, or is seen.
    pub fn rest(&self, cpu: CpuId) {
        self.idle.fetch_or(CpuSet::one(cpu).0, SeqCst);
    }

    /// It has.
    pub fn rise(&self, cpu: CpuId) {
        self.idle.fetch_and(!CpuSet::one(cpu).0, SeqCst);
    }

    /// Takes an idle processor for a vCPU; false when another one was quicker.
    pub fn claim(&self, cpu: CpuId) -> bool {
        self.idle.fetch_and(!CpuSet::one(cpu).0, SeqCst) & CpuSet::one(cpu).0 != 0
    }

    /// The processor for which most wait, of those that have a vCPU to give.
    pub fn busiest(&self) -> Option<CpuId> {
        let spare = self.iter().map(|(id, cpu)| (cpu.queued().spare, id));
        spare.filter(|(spare, _)| *spare != 0).max().map(|(_, id)| id)
    }
}

impl CpuShared {
    /// Publishes who runs here.
    #[inline]
    pub fn publish_running(&self, vcpu: NameTag) {
        self.running.store(vcpu.0, Relaxed);
    }

    /// Publishes how many wait here. A full barrier before a look at [`CpuTable::idle`].
    pub fn publish_queued(&self, queued: Queued) {
        self.queued.swap(queued.pack(), SeqCst);
    }

    /// Claims the right to interrupt whoever runs here. `cause` is the guest that did what the interruption is about, not the one
    /// that it is for; `None`: nobody in particular. A guest may interrupt its own vCPUs always, and everybody a processor on which
    /// nobody runs; all others together interrupt once in a `period`.
    ///
    /// # Errors
    ///
    /// When that will be.
    pub fn disturb(&self, cause: Option<GuestId>, now: Tsc, period: Ticks) -> Result<(), Tsc> {
        if self.running().is_none_or(|(_, runner)| Some(runner) == cause) {
            return Ok(());
        }
        let until = self.quiet_until.load(Relaxed);
        let claimed = now.0 >= until
            && self.quiet_until.compare_exchange(until, (now + period).0, Relaxed, Relaxed).is_ok();
        if claimed { Ok(()) } else { Err(Tsc(self.quiet_until.load(Relaxed))) }
    }

    /// Before this, whoever runs here is not interrupted because of another guest.
    pub fn quiet_until(&self) -> Tsc {
        Tsc(self.quiet_until.load(Relaxed))
    }

    /// Whoever runs here was interrupted because of another guest: not again before `until`.
    pub fn be_quiet(&self, until: Tsc) {
        self.quiet_until.fetch_max(until.0, Relaxed);
    }

    /// The vCPU that runs here, and whose it is.
    pub fn running(&self) -> Option<(Slot, GuestId)> {
        NameTag(self.running.load(Relaxed)).read()
    }

    /// How many wait here.
    pub fn queued(&self) -> Queued {
        Queued::unpack(self.queued.load(Relaxed))
    }

    /// How many of a guest's vCPUs run or wait here, on average, as this processor keeps count.
    pub fn counted(&self, guest: GuestId) -> u32 {
        self.present.get(usize::from(guest.0)).map_or(0, |present| present.load(Relaxed))
    }

    /// Counts anew.
    pub fn count(&self, guest: GuestId, present: u32) {
        if let Some(place) = self.present.get(usize::from(guest.0)) {
            place.store(present, Relaxed);
        }
    }

    /// How many of a guest's vCPUs run or wait here. A processor for which nobody waits looks at nothing and counts nothing:
    /// there, whoever runs is there.
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
