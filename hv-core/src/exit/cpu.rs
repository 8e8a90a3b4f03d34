//! One processor's scheduling state: its run queue, its timers, and its notifications to other processors.

mod console;

pub use console::Room;

use crate::base::hardware::Hardware;
use crate::base::id::{CpuId, CpuSet, GuestId};
use crate::base::time::{Frequency, Ticks, Tsc};
use crate::guest::platform::Platform;
use crate::guest::system::System;
use crate::policy::cpu_shared::{CpuShared, Queued};
use crate::policy::demand;
use crate::policy::mailbox::Mailbox;
use crate::policy::presence::Life;
use crate::policy::sched::{Params, RunQueue, Slot, Wake};
use crate::policy::timers::Timers;
use crate::policy::trace::{CpuTally, Record};
use crate::policy::vcpu_shared::VcpuShared;
use pv_abi::protocol::yield_wanted::Interrupt;

/// Publishing statistics costs as much as a third of a switch, so a vCPU that switches all the time does it no more often
/// than this.
const STATISTICS_PERIOD_NS: u64 = 1_000_000;
/// Shortest time between two interruptions of the running vCPU because of other guests, by notifications and timers together
/// (DESIGN §5).
const QUIET_NS: u64 = 50_000;

/// All state of a processor except its vCPUs' private state.
pub struct CpuContext<P: Platform> {
    /// The processor's number.
    pub cpu: CpuId,
    /// The state that all processors share.
    pub system: &'static System<P::Ram>,
    /// The part of this processor's state that other processors see.
    pub shared: &'static CpuShared,
    /// Clock, timer, console and telemetry line.
    pub hardware: P::Hardware,
    /// The vCPUs that run or wait here.
    pub queue: RunQueue,
    /// The next timer of each vCPU here, by slot.
    pub timers: Timers,
    /// The scheduler's constants, in ticks.
    pub params: Params,
    /// The time-stamp counter's frequency, which converts nanoseconds to ticks.
    pub tsc: Frequency,
    /// How long the running vCPU is left alone after it was interrupted because of another guest: 50 µs.
    pub quiet: Ticks,
    /// How old a vCPU's published statistics may be when it leaves the CPU: 1 ms.
    pub statistics_period: Ticks,
    /// Nanoseconds per tick, in fixed point with 32 fractional bits.
    pub ns_per_tick: u64,
    /// Number of vCPUs here that may run on other processors.
    movable: u32,
    /// The number of waiting vCPUs that this processor last published; `u32::MAX` if it must publish anew.
    told: u32,
    /// Processors to interrupt once they may be interrupted again.
    put_off: CpuSet,
    /// The slot of [`Self::timers`] with the moment for that: after all vCPUs' slots, and before the slot of
    /// [`Self::look_around_at`].
    put_off_slot: Slot,
    /// The moment for which the hardware timer is armed; [`Tsc::NEVER`] if it is not.
    armed: Tsc,
}

impl<P: Platform> CpuContext<P> {
    /// A processor with nothing to do, and with room for every vCPU of the machine.
    pub fn new(cpu: CpuId, system: &'static System<P::Ram>, hardware: P::Hardware) -> Self {
        let tsc = system.tsc;
        let params = Params::new(tsc);
        let mut queue = RunQueue::new(params);
        let vcpus: alloc::vec::Vec<_> = system.guests.iter().map(|guest| guest.vcpu_count()).collect();
        queue.prepare(&vcpus);
        let mut timers = Timers::default();
        for _ in &system.vcpus {
            timers.add_slot();
        }
        let put_off_slot = Slot(u16::try_from(system.vcpus.len()).unwrap_or(u16::MAX));
        (0..2).for_each(|_| timers.add_slot());
        Self {
            cpu,
            system,
            shared: system.cpu_table.cpu(cpu),
            hardware,
            queue,
            timers,
            params,
            tsc,
            quiet: tsc.ticks(QUIET_NS),
            statistics_period: tsc.ticks(STATISTICS_PERIOD_NS),
            ns_per_tick: crate::policy::vcpu_shared::tsc_to_ns_mul(tsc),
            movable: 0,
            told: 0,
            put_off: CpuSet(0),
            put_off_slot,
            armed: Tsc::NEVER,
        }
    }

    /// Nanoseconds in `ticks`; wraps after centuries.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "centuries of nanoseconds fit")]
    pub const fn ns(&self, ticks: u64) -> u64 {
        ((ticks as u128 * self.ns_per_tick as u128) >> 32) as u64
    }

    /// This processor's counters.
    #[inline]
    pub const fn tally(&self) -> &'static CpuTally {
        &self.shared.tally
    }

    /// The notifications that other processors leave for this one.
    #[inline]
    pub const fn mailbox(&self) -> &'static Mailbox {
        &self.shared.mailbox
    }

    /// The vCPU that runs.
    pub fn running(&self) -> Option<&'static VcpuShared> {
        self.queue.current().and_then(|slot| self.system.vcpu(slot))
    }

    /// Has a vCPU look at its pending attention: wakes it if it sleeps, here or through its processor. `cause` is the guest
    /// that caused the attention.
    #[inline]
    pub fn wake(&mut self, vcpu: &'static VcpuShared, cause: GuestId, now: Tsc) {
        if vcpu.holder() == self.cpu {
            self.wake_here(vcpu, now);
        } else if vcpu.must_be_told() {
            self.post(vcpu, cause);
        }
    }

    /// Makes a sleeping vCPU of this processor runnable. Does nothing for one that is not asleep.
    #[inline]
    pub fn wake_here(&mut self, vcpu: &'static VcpuShared, now: Tsc) {
        if vcpu.life() == Life::Blocked {
            vcpu.set_life(Life::Runnable);
            self.enqueue(vcpu, now);
        }
    }

    /// Has the processor that holds a vCPU look at it: at once, unless that would interrupt a guest other than `cause` too
    /// often.
    #[cold]
    pub fn post(&mut self, vcpu: &VcpuShared, cause: GuestId) {
        let holder = vcpu.holder();
        if self.system.cpu_table.cpu(holder).mailbox.post(vcpu.slot) == Interrupt::Needed {
            self.interrupt(holder, Some(cause), self.hardware.now());
        }
    }

    /// Interrupts a processor that has a notification, or puts that off until the vCPU that runs there may be interrupted
    /// again.
    fn interrupt(&mut self, cpu: CpuId, cause: Option<GuestId>, now: Tsc) {
        if cpu == self.cpu {
            return;
        }
        match self.system.cpu_table.cpu(cpu).disturb(cause, now, self.quiet) {
            Ok(()) => self.kick(cpu),
            Err(until) => {
                self.put_off.0 |= CpuSet::one(cpu).0;
                self.put_off_until(until);
            }
        }
    }

    /// Schedules the interrupts that were put off for `until`, or earlier.
    pub fn put_off_until(&mut self, until: Tsc) {
        let first = self.timers.get(self.put_off_slot).min(until);
        self.timers.set(self.put_off_slot, first);
        self.rearm();
    }

    /// Sets the moment at which this processor looks around, whichever vCPU runs.
    pub fn look_around_at(&mut self, at: Tsc) {
        self.timers.set(Slot(self.put_off_slot.0.saturating_add(1)), at);
    }

    /// Puts the remaining notifications off until the running vCPU may be interrupted again.
    pub fn put_off_notifications(&mut self, now: Tsc) {
        self.put_off.0 |= CpuSet::one(self.cpu).0;
        self.put_off_until(now + self.quiet);
    }

    /// Interrupts the processors for which that was put off, if they have not looked by themselves meanwhile. The guests that
    /// it was for are not recorded, so it counts as another guest's interruption everywhere.
    #[cold]
    pub fn kick_put_off(&mut self, now: Tsc) {
        let system = self.system;
        let put_off = core::mem::replace(&mut self.put_off, CpuSet(0));
        if put_off.has(self.cpu) {
            self.mailbox().recall();
        }
        for (cpu, line) in system.cpu_table.iter().filter(|(cpu, _)| put_off.has(*cpu)) {
            if line.mailbox.is_away() && !line.mailbox.is_empty() {
                self.interrupt(cpu, None, now);
            }
        }
    }

    /// Asks the holder of a waiting vCPU to send it here, on behalf of a vCPU of its guest that runs here.
    #[cold]
    pub fn pull(&mut self, vcpu: &VcpuShared) {
        vcpu.ask_for(self.cpu);
        self.post(vcpu, vcpu.id.guest);
    }

    /// Asks a busy processor for one of the vCPUs that wait there.
    #[cold]
    pub fn ask_for_work(&mut self, busy: CpuId, now: Tsc) {
        if self.system.cpu_table.cpu(busy).mailbox.ask() == Interrupt::Needed {
            self.interrupt(busy, None, now);
        }
    }

    /// Asks another processor to look around at once, without sparing the vCPU that runs there.
    #[cold]
    pub fn ask(&mut self, cpu: CpuId) {
        if self.system.cpu_table.cpu(cpu).mailbox.ask() == Interrupt::Needed {
            self.kick(cpu);
        }
    }

    fn kick(&mut self, cpu: CpuId) {
        if cpu != self.cpu {
            self.tally().kicks.add(1);
            self.hardware.kick(cpu);
        }
    }

    /// Puts a vCPU that became runnable into the queue, and tells the running vCPU that another one waits.
    pub fn enqueue(&mut self, vcpu: &'static VcpuShared, now: Tsc) {
        let request = demand::request(vcpu, &self.params, self.tsc, now);
        match self.queue.wake(vcpu.slot, request, now) {
            Wake::Queued { decide_at: _ } => {
                if let Some(runner) = self.running() {
                    runner.publish_wanted(self.queue.slice_end().0);
                    runner.expect_pauses();
                }
                vcpu.expect_pauses();
                // The running vCPU may go on without an exit of its own for any length of time.
                self.rearm();
                self.offer();
            }
            Wake::AlreadyRunnable | Wake::Idle => {}
        }
    }

    /// A vCPU waits here: if another processor is idle, this one looks around before it enters guest mode again. Either this
    /// processor sees the other one idle, or the idle one sees the spare vCPU.
    fn offer(&mut self) {
        self.tell_queued();
        if self.system.cpu_table.idle().0 != 0 {
            let _ = self.mailbox().ask();
        }
    }

    /// Upper bound of the number of vCPUs that wait here and could run elsewhere. If no vCPU runs here yet, one of them will.
    #[inline]
    pub fn spare(&self) -> u32 {
        self.queue.waiting().saturating_sub(u32::from(self.queue.current().is_none())).min(self.movable)
    }

    /// Publishes the number of vCPUs that wait here, if it has changed.
    #[inline]
    pub fn show_queued(&mut self) {
        if self.queue.waiting() != self.told {
            self.tell_queued();
        }
    }

    #[cold]
    #[expect(clippy::cast_possible_truncation, reason = "a machine has 1,024 vCPUs at most")]
    fn tell_queued(&mut self) {
        let waiting = self.queue.waiting();
        self.told = waiting;
        let spare = waiting.min(self.movable);
        self.shared.publish_queued(Queued { waiting: waiting as u16, spare: spare as u16 });
    }

    /// Number of vCPUs here that may run on other processors.
    pub const fn movable(&self) -> u32 {
        self.movable
    }

    /// Sets the number of vCPUs here that may run on other processors, after one of them came or went.
    pub fn set_movable(&mut self, movable: u32) {
        self.movable = movable;
        self.told = u32::MAX;
    }

    /// Arms the hardware timer for the slice's end or the first timer, whichever comes first. A timer that is set too early
    /// stays: it costs one look, and moving it costs a register write at each switch.
    #[inline]
    pub fn rearm(&mut self) {
        if self.queue.slice_end().min(self.timers.first()) < self.armed {
            self.arm();
        }
    }

    fn arm(&mut self) {
        let wanted = self.queue.slice_end().min(self.next_check());
        if wanted < self.armed {
            self.armed = wanted;
            self.tally().timer_arms.add(1);
            self.hardware.arm_timer(wanted);
        }
    }

    /// When this processor looks at the first timer. If the running vCPU was interrupted because of another guest a moment
    /// ago, other guests' timers wait until it may be interrupted again; its own timer does not, whatever timers come before
    /// it.
    fn next_check(&self) -> Tsc {
        let (first, quiet_until) = (self.timers.first(), self.shared.quiet_until());
        match self.running() {
            Some(runner) if first < quiet_until && self.first_timer_owner() != Some(runner.id.guest) => {
                quiet_until.min(self.timers.get(runner.slot))
            }
            Some(_) | None => first,
        }
    }

    /// The guest whose timer comes first; `None` if no timer is set, or if the first one is this processor's own.
    pub fn first_timer_owner(&self) -> Option<GuestId> {
        let first = self.timers.first_slot()?;
        self.system.vcpu(first).map(|vcpu| vcpu.id.guest)
    }

    /// Takes the pending interrupts. Any of them may have been the timer, which is armed again only when the vCPU has left
    /// its turn, so the caller never answers [`Next::Resume`](crate::guest::next::Next::Resume).
    pub fn take_interrupts(&mut self) {
        self.hardware.take_interrupts();
        self.armed = Tsc::NEVER;
        self.tally().interrupts.add(1);
    }

    /// Sleeps until an interrupt; returns the moment after it, or `None` while the processor sleeps on. The sleep began at
    /// `since`.
    pub fn wait(&mut self, since: Tsc) -> Option<Tsc> {
        if !self.hardware.wait() {
            return None;
        }
        self.armed = Tsc::NEVER;
        self.tally().interrupts.add(1);
        let now = self.hardware.now();
        self.tally().idle_ticks.add(now.since(since).0);
        Some(now)
    }

    /// Reports how far off the clock has been, in a console line and in a record. Published values do not change.
    pub fn judge_clock(&mut self) {
        if let Some(off_ppm) = self.hardware.clock_off_ppm(self.tsc) {
            let tsc = self.hardware.now().0;
            let (tsc_khz, after_ms) = (self.tsc.khz(), self.ns(tsc) / 1_000_000);
            self.say(format_args!("clock: tsc_khz={tsc_khz} off_ppm={off_ppm} after_ms={after_ms}"));
            self.system.telemetry.lock().clock = Some(Record::Clock { tsc, off_ppm });
        }
    }

    /// Writes the records that were kept.
    pub fn write_records(&mut self) {
        let records = self.system.telemetry.lock().take();
        // The zero byte ends any output that firmware left on the line.
        self.hardware.telemetry_write(&[0]);
        for record in records {
            if let Ok(bytes) = postcard::to_allocvec_cobs(&record) {
                self.hardware.telemetry_write(&bytes);
            }
        }
    }
}
