//! One processor's share of the work: who may run, when to look again, and what to tell whom.

use crate::base::hardware::{GuestRam, Hardware};
use crate::base::id::GuestId;
use crate::base::time::{Frequency, Ticks, Tsc};
use crate::dispatch::guest::Guest;
use crate::policy::demand;
use crate::policy::publish::{Life, VcpuShared, attention};
use crate::policy::sched::{Params, RunQueue, Wake};
use crate::policy::timers::Timers;
use crate::policy::trace::{CpuCounters, Record};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

/// Publishing statistics costs as much as a third of a switch, so a vCPU that switches all the time does it less often.
const STATISTICS_PERIOD_NS: u64 = 1_000_000;
/// Records kept until they are written.
const MAX_RECORDS: usize = 8192;
/// Guests' counters kept in marks until they are written: a mark holds a set for each guest, and guests make marks at will.
const MAX_MARKED: usize = 1 << 16;
/// Of a guest's share of the records, what its marks leave to its endings.
const ENDINGS: usize = 16;

/// Everything of a processor but its vCPUs' private state.
pub struct Core<H, R: GuestRam + 'static> {
    /// Clock, timer, lines.
    pub hardware: H,
    /// Who may run.
    pub queue: RunQueue,
    /// When vCPUs want to be looked at.
    pub timers: Timers,
    /// The vCPUs of this processor, by slot.
    pub shared: Vec<&'static VcpuShared>,
    /// All guests, by id.
    pub guests: Vec<&'static Guest<R>>,
    /// What the scheduler's constants are.
    pub params: Params,
    /// The time-stamp counter's frequency.
    pub tsc: Frequency,
    /// How old a vCPU's published statistics may be when it leaves the CPU: 1 ms.
    pub statistics_period: Ticks,
    /// Nanoseconds a tick, 32 bits behind the point.
    pub ns_per_tick: u64,
    /// Unix time in ns when the time-stamp counter was zero.
    pub wall_ns: u64,
    /// What the processor did.
    pub counters: CpuCounters,
    /// Telemetry that is not written yet.
    records: Vec<Record>,
    lost_records: u64,
    /// Records of each guest, by id: one that makes marks without end crowds out its own only.
    kept: Vec<usize>,
    /// When the timer is set to interrupt; [`Tsc::NEVER`] = not.
    armed: Tsc,
    /// The last cookie given out.
    last_cookie: u16,
    /// The guest whose name stands before input that people type.
    pub input_guest: GuestId,
}

impl<H: Hardware, R: GuestRam> Core<H, R> {
    /// A processor with nothing to do.
    pub fn new(hardware: H, tsc: Frequency, wall_ns: u64) -> Self {
        let params = Params::new(tsc);
        Self {
            hardware,
            queue: RunQueue::new(params),
            timers: Timers::default(),
            shared: Vec::new(),
            guests: Vec::new(),
            params,
            tsc,
            statistics_period: tsc.ticks(STATISTICS_PERIOD_NS),
            ns_per_tick: crate::policy::publish::tsc_to_ns_mul(tsc),
            wall_ns,
            counters: CpuCounters::default(),
            records: Vec::with_capacity(MAX_RECORDS),
            lost_records: 0,
            kept: Vec::new(),
            armed: Tsc::NEVER,
            last_cookie: 0,
            input_guest: GuestId(0),
        }
    }

    /// Nanoseconds in `ticks`; wraps after centuries.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "centuries of nanoseconds fit")]
    pub const fn ns(&self, ticks: u64) -> u64 {
        ((ticks as u128 * self.ns_per_tick as u128) >> 32) as u64
    }

    /// The vCPU that runs.
    pub fn running(&self) -> Option<&'static VcpuShared> {
        self.queue.current().and_then(|slot| self.shared.get(usize::from(slot.0))).copied()
    }

    /// Makes a sleeping vCPU runnable. Does nothing for one that is not asleep.
    pub fn wake(&mut self, vcpu: &'static VcpuShared, now: Tsc) {
        if vcpu.life() != Life::Blocked {
            return;
        }
        vcpu.set_life(Life::Runnable);
        self.enqueue(vcpu, now);
    }

    /// Puts a vCPU that became runnable into the queue, and tells the runner that somebody waits.
    pub fn enqueue(&mut self, vcpu: &'static VcpuShared, now: Tsc) {
        let request = demand::request(vcpu, &self.params, self.tsc, now);
        match self.queue.wake(vcpu.slot, request, now) {
            Wake::Queued { decide_at: _ } => {
                if let Some(runner) = self.running() {
                    runner.publish_wanted(self.queue.slice_end().0);
                }
                // The runner may go on without an exit of its own for as long as it likes.
                self.rearm();
            }
            Wake::AlreadyRunnable | Wake::Idle => {}
        }
    }

    /// Sets the timer for whatever comes first. A timer that is set too early stays: it costs one look, and moving it
    /// costs a register write at each switch.
    #[inline]
    pub fn rearm(&mut self) {
        let wanted = self.queue.slice_end().min(self.timers.first());
        if wanted < self.armed {
            self.armed = wanted;
            self.counters.timer_arms += 1;
            self.hardware.arm_timer(wanted);
        }
    }

    /// Takes the interrupts that wait. Any of them may have been the timer.
    pub fn take_interrupts(&mut self) {
        self.hardware.take_interrupts();
        self.armed = Tsc::NEVER;
        self.counters.timer_interrupts += 1;
    }

    /// Sleeps until an interrupt; returns when that was.
    pub fn wait(&mut self) -> Tsc {
        let from = self.hardware.now();
        self.hardware.wait();
        self.armed = Tsc::NEVER;
        self.counters.timer_interrupts += 1;
        let now = self.hardware.now();
        self.counters.idle_ticks += now.since(from).0;
        now
    }

    /// A cookie that no vCPU has had for a long time; never 0, so that a zeroed row matches none.
    pub fn new_cookie(&mut self) -> u16 {
        self.last_cookie = self.last_cookie.checked_add(1).unwrap_or(1);
        self.last_cookie
    }

    /// Whether there is room for one more mark of a guest's; when not, it is counted as lost.
    pub fn has_room_for_mark(&mut self, of: GuestId) -> bool {
        let guests = self.guests.len().max(1);
        let most = (MAX_RECORDS / guests).saturating_sub(ENDINGS).min(MAX_MARKED / (guests * guests));
        self.has_room(of, most)
    }

    /// Whether there is room for one more ending of a guest's; when not, it is counted as lost.
    pub fn has_room_for_ending(&mut self, of: GuestId) -> bool {
        self.has_room(of, MAX_RECORDS / self.guests.len().max(1))
    }

    fn has_room(&mut self, of: GuestId, most: usize) -> bool {
        let of = usize::from(of.0);
        if self.kept.len() <= of {
            self.kept.resize(of + 1, 0);
        }
        let room = self.kept.get_mut(of).filter(|kept| **kept < most).map(|kept| *kept += 1).is_some();
        self.lost_records += u64::from(!room);
        room
    }

    /// Keeps a record until [`Self::write_records`].
    pub fn record(&mut self, record: Record) {
        if self.records.len() < MAX_RECORDS {
            self.records.push(record);
        } else {
            self.lost_records += 1;
        }
    }

    /// Writes the records that were kept.
    pub fn write_records(&mut self) {
        if self.lost_records > 0 {
            self.records.push(Record::Lost { records: core::mem::take(&mut self.lost_records) });
        }
        for record in self.records.drain(..) {
            if let Ok(bytes) = postcard::to_allocvec_cobs(&record) {
                self.hardware.telemetry_write(&bytes);
            }
        }
    }

    /// Writes to a guest's console: lines appear whole, with the guest's name in front.
    pub fn console(&mut self, guest: &Guest<R>, bytes: &[u8]) {
        let mut line = guest.line.lock();
        for byte in bytes.iter().copied().filter(|byte| *byte != b'\r') {
            if byte == b'\n' || line.is_full() {
                self.write_line(guest, &line);
                line.clear();
            }
            if byte != b'\n' {
                let _ = line.push(byte);
            }
        }
    }

    /// Shows what a guest wrote and did not end: it will not write more.
    pub fn end_line(&mut self, guest: &Guest<R>) {
        let mut line = guest.line.lock();
        if !line.is_empty() {
            self.write_line(guest, &line);
            line.clear();
        }
    }

    fn write_line(&mut self, guest: &Guest<R>, line: &[u8]) {
        self.hardware.console_write(b"[");
        self.hardware.console_write(guest.config.name.as_bytes());
        self.hardware.console_write(b"] ");
        self.hardware.console_write(line);
        self.hardware.console_write(b"\n");
    }

    /// Hands what people typed to the guest that has the input.
    pub fn poll_input(&mut self) {
        let Some(guest) = self.guests.get(usize::from(self.input_guest.0)).copied() else { return };
        let Some(first) = guest.vcpu(0) else { return };
        // What a full guest's UART has no room for stays in the line.
        while guest.is_cooperative() || guest.devices.lock().has_room() {
            let Some(byte) = self.hardware.console_read() else { return };
            if guest.is_cooperative() {
                let _ = guest.input.lock().push_back(byte); // what nobody reads is dropped
                first.post_event(pv_abi::event::CONSOLE);
            } else {
                guest.devices.lock().receive(byte);
                first.attention.fetch_or(attention::DEVICE, SeqCst);
            }
            let now = self.hardware.now();
            self.wake(first, now);
        }
    }

    /// Writes a line of the hypervisor's own.
    pub fn say(&mut self, text: core::fmt::Arguments<'_>) {
        let _ = core::fmt::Write::write_fmt(&mut Lines(&mut self.hardware), format_args!("comity: {text}\n"));
    }
}

struct Lines<'a, H>(&'a mut H);

impl<H: Hardware> core::fmt::Write for Lines<'_, H> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.console_write(text.as_bytes());
        Ok(())
    }
}
