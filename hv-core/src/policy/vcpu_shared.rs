//! What the hypervisor tells a vCPU, and the words it shares with it. Publishing never exits.

use crate::base::addr::HostPhys;
use crate::base::hardware::{Row, SharedWords};
use crate::base::id::{CpuId, CpuSet, VcpuId, VcpuIndex};
use crate::base::time::Frequency;
use crate::policy::cpu_shared::NameTag;
use crate::policy::mm::shootdown::{Shootdown, Told};
use crate::policy::posted::Posted;
use crate::policy::presence::{Attention, Life, Presence};
use crate::policy::sched::Slot;
use crate::policy::trace::{ExitClass, VcpuTally};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use pv_abi::header::Header;
use pv_abi::protocol::dispatch::{is_on_cpu, switch_out};
use pv_abi::protocol::flush::{self, Flush};
use pv_abi::protocol::{arm, yield_wanted};
use pv_abi::status::StatusFlags;
use pv_abi::table::{DEMAND_ROWS, EVENT_LINES, STATUS_HOT, STATUS_STATISTICS};
use pv_abi::{demand, event, status};
use zerocopy::IntoBytes;

/// Frames that hypervisor and guest share.
#[derive(Clone, Copy, Debug)]
pub struct SharedFrames {
    /// Where they lie.
    pub start: HostPhys,
    /// The same as words.
    pub words: SharedWords,
}

/// The tables of one guest.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// The guest writes.
    pub demand: SharedFrames,
    /// The hypervisor writes.
    pub status: SharedFrames,
    /// Both write.
    pub event: SharedFrames,
    /// Two rings.
    pub console: SharedFrames,
}

impl Tables {
    /// Clears everything and writes the headers.
    pub fn reset(&self, header: &Header) {
        for frames in [self.demand, self.status, self.event, self.console] {
            clear(frames.words);
        }
        for frames in [self.demand, self.status, self.event] {
            let size_bytes = u32::try_from(frames.words.len() * 8).unwrap_or(0);
            let header = Header { size_bytes, row_bytes: 64, ..*header };
            let words = header.as_bytes().chunks_exact(8).filter_map(|bytes| bytes.first_chunk::<8>());
            for (word, bytes) in frames.words.iter().zip(words) {
                word.store(u64::from_le_bytes(*bytes), Relaxed);
            }
        }
    }
}

fn clear<'a>(words: impl IntoIterator<Item = &'a AtomicU64>) {
    words.into_iter().for_each(|word| word.store(0, Relaxed));
}

/// A row of eight words at a byte offset, or `None` outside the frames.
fn row(frames: SharedFrames, offset_bytes: usize) -> Option<&'static Row> {
    frames.words.get(offset_bytes / 8..)?.first_chunk()
}

/// What everybody may know of a vCPU: its rows, and where to leave messages for it. Never freed.
#[derive(Debug)]
pub struct VcpuShared {
    /// Who it is.
    pub id: VcpuId,
    /// Its place in the run queue.
    pub slot: Slot,
    /// What its processor shows the others of it.
    pub name_tag: NameTag,
    /// The guest writes.
    pub demand: &'static Row,
    /// The hypervisor writes: the hot line.
    pub status: &'static Row,
    /// The hypervisor writes: the statistics.
    statistics: [&'static Row; 2],
    /// Both write.
    pub event: &'static Row,
    /// Where it is, and what waits for a look.
    pub presence: Presence,
    /// The processors that it may run on.
    pub allowed: CpuSet,
    /// 1 + the processor that asks to have it, after a directed yield; 0 = none.
    wanted_by: AtomicU32,
    /// What it has caused.
    pub tally: VcpuTally,
    /// Interrupts that others posted.
    pub posted: Posted,
    /// Its logical id in the flat model, for an ordinary PC. Its local APIC writes it, and nobody else.
    pub flat_id: AtomicU8,
    /// PAUSE does not exit, since nobody waited when it last did.
    pauses_run: AtomicBool,
    /// The cookie of its demand row; [`NO_COOKIE`] when it is not registered.
    cookie: AtomicU32,
    /// All ones if it may know that somebody waits, else 0: what it is shown of that is masked with this.
    shown: u64,
}

/// Not registered.
pub const NO_COOKIE: u32 = u32::MAX;
/// Not registered, and told of each switch in a way of its own (KVM's steal time).
pub const SWITCHES_TOLD: u32 = u32::MAX - 1;

impl VcpuShared {
    /// The shared view of a vCPU; `None` when the index is outside the tables.
    pub fn new(
        id: VcpuId,
        slot: Slot,
        tables: &Tables,
        shows_waiters: bool,
        allowed: CpuSet,
    ) -> Option<Self> {
        let index = usize::from(id.index.0);
        Some(Self {
            id,
            slot,
            name_tag: NameTag::of(slot, id.guest),
            demand: row(tables.demand, DEMAND_ROWS + 64 * index)?,
            status: row(tables.status, STATUS_HOT + 64 * index)?,
            statistics: [
                row(tables.status, STATUS_STATISTICS + 128 * index)?,
                row(tables.status, STATUS_STATISTICS + 128 * index + 64)?,
            ],
            event: row(tables.event, EVENT_LINES + 64 * index)?,
            presence: Presence::new(|| AtomicU64::new(0)),
            allowed,
            wanted_by: AtomicU32::new(0),
            tally: VcpuTally::default(),
            posted: Posted::default(),
            flat_id: AtomicU8::new(0),
            pauses_run: AtomicBool::new(false),
            cookie: AtomicU32::new(NO_COOKIE),
            shown: if shows_waiters { u64::MAX } else { 0 },
        })
    }

    /// Its index in its guest.
    pub const fn index(&self) -> VcpuIndex {
        self.id.index
    }

    /// Where it is in its life.
    #[inline]
    pub fn life(&self) -> Life {
        self.presence.life()
    }

    /// Only the processor that holds the vCPU calls this.
    #[inline]
    pub fn set_life(&self, life: Life) {
        self.presence.set_life(life);
    }

    /// The processor that holds it, or will find it in its parking space.
    #[inline]
    pub fn holder(&self) -> CpuId {
        self.presence.holder()
    }

    /// What waits for a look.
    #[inline]
    pub fn attention(&self) -> Attention {
        Attention::from_bits_retain(self.presence.attention.load(Relaxed))
    }

    /// Has it look at something before it enters guest mode; a full barrier. The caller tells its processor.
    #[inline]
    pub fn request_attention(&self, bits: Attention) {
        self.presence.attention.fetch_or(bits.bits(), SeqCst);
    }

    /// Takes those of `bits` that wait.
    pub fn take_attention(&self, bits: Attention) -> Attention {
        self.presence.take_attention(bits)
    }

    /// Whether somebody who left something must tell the vCPU's processor.
    pub fn must_be_told(&self) -> bool {
        self.presence.must_be_told(&self.status[status::word::DISPATCH_SEQ])
    }

    /// Notes that a processor would run it in another's place.
    pub fn ask_for(&self, cpu: CpuId) {
        self.wanted_by.store(u32::from(cpu.0) + 1, Relaxed);
    }

    /// Has it flush before it enters guest mode.
    pub fn tell_to_flush(&self, shootdown: &Shootdown) -> Told {
        shootdown.tell(&self.presence.attention, &self.status[status::word::DISPATCH_SEQ])
    }

    /// The processor that asked to have it.
    pub fn take_asker(&self) -> Option<CpuId> {
        let asker = self.wanted_by.swap(0, Relaxed).checked_sub(1)?;
        u16::try_from(asker).ok().map(CpuId)
    }

    /// Whether PAUSE is left to the vCPU; only its processor asks and says so.
    pub fn let_pauses_run(&self, run: bool) {
        self.pauses_run.store(run, Relaxed);
    }

    /// Somebody waits now, or this vCPU does: from its next entry on its PAUSE tells.
    #[inline]
    pub fn expect_pauses(&self) {
        if self.pauses_run.load(Relaxed) {
            self.request_attention(Attention::WAITERS);
        }
    }

    /// The cookie its demand row must carry, or [`NO_COOKIE`].
    #[inline]
    pub fn cookie(&self) -> u32 {
        self.cookie.load(Relaxed)
    }

    /// Registers or unregisters the demand row.
    pub fn set_cookie(&self, cookie: u32) {
        self.cookie.store(cookie, Relaxed);
    }

    /// Drops interrupts, NMIs and everything else that waits for a look, but what others wait for.
    pub fn drop_interrupts(&self) {
        self.presence.attention.fetch_and(Attention::LASTING.bits(), SeqCst);
        self.posted.clear();
    }

    /// Cancels timer, events and grants, and ignores the demand row from now on.
    pub fn unregister(&self) {
        self.presence.attention.fetch_and(Attention::LASTING.bits(), SeqCst);
        self.set_cookie(NO_COOKIE);
        self.posted.clear();
        clear(self.event);
        self.publish_unarmed();
        self.status[status::word::FLAGS].fetch_and(!StatusFlags::CRIT_GRANTED.bits(), Relaxed);
    }

    /// Forgets everything but who it is: after INIT, restart and kill. The dispatch sequence goes on, so that nobody takes
    /// an old dispatch for a new one.
    pub fn forget(&self) {
        self.unregister();
        let status = self.status.iter().skip(status::word::DISPATCH_SEQ + 1);
        clear(self.demand.iter().chain(status));
    }

    /// Posts an interrupt; the caller wakes the vCPU.
    pub fn post_interrupt(&self, vector: u8) {
        self.posted.post(vector);
        self.request_attention(Attention::INTERRUPT);
    }

    /// Sets an event; the caller wakes the vCPU.
    pub fn post_event(&self, number: u8) {
        self.event[event::word::PENDING].fetch_or(event::bit(number), SeqCst);
        self.request_attention(Attention::EVENT);
    }

    /// Events that happened and are not masked.
    #[inline]
    pub fn pending_events(&self) -> u64 {
        self.event[event::word::PENDING].load(Acquire) & !self.event[event::word::MASK].load(Relaxed)
    }

    /// Publishes that the vCPU is on CPU until `slice_end_tsc`; true when it must flush its TLB first.
    ///
    /// The sequence is odd before the flush request is taken: whoever saw it even has left a request that is seen here.
    #[inline]
    pub fn publish_on(&self, slice_end_tsc: u64, wanted: bool) -> Flush {
        let row = self.status;
        let asked = if wanted { StatusFlags::YIELD_PLEASE.bits() & self.shown } else { 0 };
        self.publish_slice_end(slice_end_tsc);
        let flags = &row[status::word::FLAGS];
        let seq = &row[status::word::DISPATCH_SEQ];
        if is_on_cpu(seq.load(Relaxed)) {
            // It never left: what it was granted stays.
            flags.store(flags.load(Relaxed) & !StatusFlags::YIELD_PLEASE.bits() | asked, Relaxed);
            return Flush::NotNeeded;
        }
        flags.store(asked, Relaxed);
        flush::dispatch(seq, &self.event[event::word::FLUSH_REQUEST])
    }

    /// The next time that the vCPU comes to the CPU, [`Self::publish_on`] says that a flush is needed.
    pub fn ask_to_flush(&self) {
        self.event[event::word::FLUSH_REQUEST].store(1, Relaxed);
    }

    /// Publishes that the vCPU is off CPU. What is set after this is seen by the recheck that follows it.
    #[inline]
    pub fn publish_off(&self) {
        let row = self.status;
        row[status::word::SLICE_END].store(0, Relaxed);
        row[status::word::FLAGS].store(0, Relaxed);
        switch_out(&row[status::word::DISPATCH_SEQ]);
    }

    /// Publishes when the slice ends; a vCPU that may not know whether somebody waits always reads zero.
    #[inline]
    fn publish_slice_end(&self, slice_end_tsc: u64) {
        self.status[status::word::SLICE_END].store(slice_end_tsc & self.shown, Relaxed);
    }

    /// Publishes that somebody waits for this vCPU's CPU from now on, if it may know.
    #[inline]
    pub fn publish_wanted(&self, slice_end_tsc: u64) {
        self.publish_slice_end(slice_end_tsc);
        if self.shown != 0 {
            yield_wanted::ask(&self.status[status::word::FLAGS]);
        }
    }

    /// Publishes that a critical section got its extension, until `slice_end_tsc`.
    pub fn publish_grant(&self, slice_end_tsc: u64) {
        self.publish_slice_end(slice_end_tsc);
        self.status[status::word::FLAGS].fetch_or(StatusFlags::CRIT_GRANTED.bits(), Release);
    }

    /// Looks at next_wake, and publishes the promise that follows. `fired` is the value that fired last.
    pub fn refresh_wake(&self, fired: &mut u64, now_tsc: u64) -> arm::Wake {
        let next_wake = &self.demand[demand::word::NEXT_WAKE];
        arm::look(next_wake, &self.status[status::word::ARMED_UNTIL], fired, now_tsc)
    }

    /// Publishes that no next_wake is honoured.
    pub fn publish_unarmed(&self) {
        self.status[status::word::ARMED_UNTIL].store(0, Release);
    }

    /// Low half of the dispatch sequence.
    pub fn dispatch_seq(&self) -> u64 {
        self.status[status::word::DISPATCH_SEQ].load(Acquire)
    }

    /// Publishes the statistics, word by word: each is consistent in itself.
    #[inline]
    pub fn publish_statistics(&self, words: &[u64; 8]) {
        for (to, from) in self.statistics[0].iter().zip(words) {
            to.store(*from, Relaxed);
        }
    }

    /// Run and steal time in ns, as published last.
    pub fn published_times(&self) -> (u64, u64) {
        (self.statistics[0][0].load(Relaxed), self.statistics[0][1].load(Relaxed))
    }

    /// Publishes the exits, by the ABI's classes.
    pub fn publish_exits(&self) {
        let of = |class: ExitClass| self.tally.exits[class as usize].get();
        let classes = [
            of(ExitClass::Call),
            of(ExitClass::Cpuid) + of(ExitClass::Msr) + of(ExitClass::Port) + of(ExitClass::Pit),
            of(ExitClass::Apic),
            of(ExitClass::Halt) + of(ExitClass::Pause),
            of(ExitClass::Interrupt),
            of(ExitClass::Window),
            of(ExitClass::Memory),
            of(ExitClass::Other),
        ];
        for (to, from) in self.statistics[1].iter().zip(classes) {
            to.store(from, Relaxed);
        }
    }
}

/// `mul` of [`Header::tsc_to_ns_mul`].
pub const fn tsc_to_ns_mul(tsc: Frequency) -> u64 {
    (1_000_000 << 32) / tsc.khz()
}
