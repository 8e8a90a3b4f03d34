//! The part of a vCPU's state that all processors may read, and its rows in the tables that hypervisor and guest share. Publishing to a
//! row causes no exit.

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
    /// Host-physical address of the first frame.
    pub start: HostPhys,
    /// The frames' contents as words.
    pub words: SharedWords,
}

/// The tables of one guest.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    /// The demand table; the guest writes it.
    pub demand: SharedFrames,
    /// The status table; the hypervisor writes it.
    pub status: SharedFrames,
    /// The event table; both write it.
    pub event: SharedFrames,
    /// The console's two rings.
    pub console: SharedFrames,
}

impl Tables {
    /// Clears all tables and writes the headers of demand, status and event.
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

/// The row of eight words at a byte offset; `None` outside the frames.
fn row(frames: SharedFrames, offset_bytes: usize) -> Option<&'static Row> {
    frames.words.get(offset_bytes / 8..)?.first_chunk()
}

/// The part of a vCPU that every processor may access: its rows, and the words where senders leave messages for it. It is never freed.
#[derive(Debug)]
pub struct VcpuShared {
    /// The vCPU's guest and its index there.
    pub id: VcpuId,
    /// The vCPU's number among all vCPUs, which indexes every run queue.
    pub slot: Slot,
    /// The word by which its processor publishes that the vCPU runs.
    pub name_tag: NameTag,
    /// The demand row; the guest writes it.
    pub demand: &'static Row,
    /// The status row, a hot cache line; the hypervisor writes it.
    pub status: &'static Row,
    /// The statistics rows; the hypervisor writes them.
    statistics: [&'static Row; 2],
    /// The event row; both write it.
    pub event: &'static Row,
    /// The vCPU's life state and holder, and its pending attention bits.
    pub presence: Presence,
    /// The processors that it may run on.
    pub allowed: CpuSet,
    /// 1 + the processor that asks to have the vCPU, after a directed yield; 0 = none.
    wanted_by: AtomicU32,
    /// The vCPU's counters; its holder writes them.
    pub tally: VcpuTally,
    /// Interrupts that any processor posted and the holder has not taken yet.
    pub posted: Posted,
    /// The vCPU's logical APIC id in the flat model, for an ordinary PC. Only its local APIC writes it.
    pub flat_id: AtomicU8,
    /// Whether PAUSE does not exit, since no other vCPU waited at its last exit.
    pauses_run: AtomicBool,
    /// The cookie of the vCPU's demand row; [`NO_COOKIE`] when the row is not registered.
    cookie: AtomicU32,
    /// All ones if the vCPU may know that another vCPU waits, else 0: a mask for the words that would show it.
    shown: u64,
}

/// The cookie of a vCPU whose demand row is not registered.
pub const NO_COOKIE: u32 = u32::MAX;
/// The cookie of a vCPU whose demand row is not registered, but which learns of each switch in another way (KVM's steal time).
pub const SWITCHES_TOLD: u32 = u32::MAX - 1;

impl VcpuShared {
    /// Makes the shared view of a vCPU; `None` when its index is outside the tables.
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

    /// The vCPU's index in its guest.
    pub const fn index(&self) -> VcpuIndex {
        self.id.index
    }

    /// The vCPU's life state.
    #[inline]
    pub fn life(&self) -> Life {
        self.presence.life()
    }

    /// Sets the life state. Only the processor that holds the vCPU calls this.
    #[inline]
    pub fn set_life(&self, life: Life) {
        self.presence.set_life(life);
    }

    /// The processor that holds the vCPU, or that will take it from its parking space.
    #[inline]
    pub fn holder(&self) -> CpuId {
        self.presence.holder()
    }

    /// The pending attention bits.
    #[inline]
    pub fn attention(&self) -> Attention {
        Attention::from_bits_retain(self.presence.attention.load(Relaxed))
    }

    /// Sets attention bits, which the holder handles before the vCPU enters guest mode; a full barrier. The caller notifies the holder.
    #[inline]
    pub fn request_attention(&self, bits: Attention) {
        self.presence.attention.fetch_or(bits.bits(), SeqCst);
    }

    /// Takes the attention bits of `bits` that are pending.
    pub fn take_attention(&self, bits: Attention) -> Attention {
        self.presence.take_attention(bits)
    }

    /// Whether a sender that set attention bits must notify the vCPU's processor.
    pub fn must_be_told(&self) -> bool {
        self.presence.must_be_told(&self.status[status::word::DISPATCH_SEQ])
    }

    /// Notes that the processor `cpu` asks to run the vCPU in its holder's place.
    pub fn ask_for(&self, cpu: CpuId) {
        self.wanted_by.store(u32::from(cpu.0) + 1, Relaxed);
    }

    /// Has the vCPU flush its TLB before it enters guest mode.
    pub fn tell_to_flush(&self, shootdown: &Shootdown) -> Told {
        shootdown.tell(&self.presence.attention, &self.status[status::word::DISPATCH_SEQ])
    }

    /// Takes the request of [`Self::ask_for`]: the processor that asked for the vCPU.
    pub fn take_asker(&self) -> Option<CpuId> {
        let asker = self.wanted_by.swap(0, Relaxed).checked_sub(1)?;
        u16::try_from(asker).ok().map(CpuId)
    }

    /// Notes whether PAUSE runs without an exit; only the vCPU's holder calls this.
    pub fn let_pauses_run(&self, run: bool) {
        self.pauses_run.store(run, Relaxed);
    }

    /// Makes PAUSE exit again from the vCPU's next entry on, since another vCPU waits now, or this one does.
    #[inline]
    pub fn expect_pauses(&self) {
        if self.pauses_run.load(Relaxed) {
            self.request_attention(Attention::WAITERS);
        }
    }

    /// The cookie that the vCPU's demand row must carry; [`NO_COOKIE`] when the row is not registered.
    #[inline]
    pub fn cookie(&self) -> u32 {
        self.cookie.load(Relaxed)
    }

    /// Registers or unregisters the demand row.
    pub fn set_cookie(&self, cookie: u32) {
        self.cookie.store(cookie, Relaxed);
    }

    /// Drops posted interrupts and all attention bits but [`Attention::LASTING`].
    pub fn drop_interrupts(&self) {
        self.presence.attention.fetch_and(Attention::LASTING.bits(), SeqCst);
        self.posted.clear();
    }

    /// Cancels the timer, events and grants; from now on the hypervisor ignores the demand row.
    pub fn unregister(&self) {
        self.presence.attention.fetch_and(Attention::LASTING.bits(), SeqCst);
        self.set_cookie(NO_COOKIE);
        self.posted.clear();
        clear(self.event);
        self.publish_unarmed();
        self.status[status::word::FLAGS].fetch_and(!StatusFlags::CRIT_GRANTED.bits(), Relaxed);
    }

    /// Forgets everything but the vCPU's identity, after INIT, restart and kill. The dispatch sequence goes on, so that no reader takes an
    /// old dispatch for a new one.
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

    /// Bit map of the events that are pending and not masked.
    #[inline]
    pub fn pending_events(&self) -> u64 {
        self.event[event::word::PENDING].load(Acquire) & !self.event[event::word::MASK].load(Relaxed)
    }

    /// Publishes that the vCPU is on CPU until `slice_end_tsc`; true when it must flush its TLB first.
    ///
    /// The sequence becomes odd before the flush request is taken, so this call sees the request of any sender that saw it even.
    #[inline]
    pub fn publish_on(&self, slice_end_tsc: u64, wanted: bool) -> Flush {
        let row = self.status;
        let asked = if wanted { StatusFlags::YIELD_PLEASE.bits() & self.shown } else { 0 };
        self.publish_slice_end(slice_end_tsc);
        let flags = &row[status::word::FLAGS];
        let seq = &row[status::word::DISPATCH_SEQ];
        if is_on_cpu(seq.load(Relaxed)) {
            // The vCPU did not leave the CPU, so its grant stays.
            flags.store(flags.load(Relaxed) & !StatusFlags::YIELD_PLEASE.bits() | asked, Relaxed);
            return Flush::NotNeeded;
        }
        flags.store(asked, Relaxed);
        flush::dispatch(seq, &self.event[event::word::FLUSH_REQUEST])
    }

    /// Requests a TLB flush: at the vCPU's next dispatch [`Self::publish_on`] returns that a flush is needed.
    pub fn ask_to_flush(&self) {
        self.event[event::word::FLUSH_REQUEST].store(1, Relaxed);
    }

    /// Publishes that the vCPU is off CPU. The caller rechecks afterwards, and so sees every request that a sender sets after this.
    #[inline]
    pub fn publish_off(&self) {
        let row = self.status;
        row[status::word::SLICE_END].store(0, Relaxed);
        row[status::word::FLAGS].store(0, Relaxed);
        switch_out(&row[status::word::DISPATCH_SEQ]);
    }

    /// Publishes the end of the slice; a vCPU that may not know whether another vCPU waits always reads zero.
    #[inline]
    fn publish_slice_end(&self, slice_end_tsc: u64) {
        self.status[status::word::SLICE_END].store(slice_end_tsc & self.shown, Relaxed);
    }

    /// Publishes that another vCPU waits for this vCPU's CPU from now on, if this vCPU may know.
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

    /// Reads next_wake, and publishes until when the hypervisor has armed it. `fired` is the value that fired last.
    pub fn refresh_wake(&self, fired: &mut u64, now_tsc: u64) -> arm::Wake {
        let next_wake = &self.demand[demand::word::NEXT_WAKE];
        arm::look(next_wake, &self.status[status::word::ARMED_UNTIL], fired, now_tsc)
    }

    /// Publishes that the hypervisor honours no next_wake.
    pub fn publish_unarmed(&self) {
        self.status[status::word::ARMED_UNTIL].store(0, Release);
    }

    /// The dispatch sequence, which is odd while the vCPU is on CPU.
    pub fn dispatch_seq(&self) -> u64 {
        self.status[status::word::DISPATCH_SEQ].load(Acquire)
    }

    /// Publishes the statistics word by word; each word is consistent in itself, the row is not.
    #[inline]
    pub fn publish_statistics(&self, words: &[u64; 8]) {
        for (to, from) in self.statistics[0].iter().zip(words) {
            to.store(*from, Relaxed);
        }
    }

    /// Run and steal time in ns, as last published.
    pub fn published_times(&self) -> (u64, u64) {
        (self.statistics[0][0].load(Relaxed), self.statistics[0][1].load(Relaxed))
    }

    /// Publishes the numbers of exits, by the ABI's classes.
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

/// The multiplier of [`Header::tsc_to_ns_mul`], in 2^-32 ns per tick.
pub const fn tsc_to_ns_mul(tsc: Frequency) -> u64 {
    (1_000_000 << 32) / tsc.khz()
}
