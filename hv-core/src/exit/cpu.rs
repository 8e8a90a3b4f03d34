//! One processor's share of the work: who may run, when to look again, and what to tell whom.

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

/// Publishing statistics costs as much as a third of a switch, so a vCPU that switches all the time does it less often.
const STATISTICS_PERIOD_NS: u64 = 1_000_000;
/// Whoever runs is interrupted because of other guests no more often than this, by notifications and timers together (DESIGN §5).
const QUIET_NS: u64 = 50_000;

/// Everything of a processor but its vCPUs' private state.
pub struct CpuContext<P: Platform> {
    /// Which processor.
    pub cpu: CpuId,
    /// What all processors have in common.
    pub system: &'static System<P::Ram>,
    /// What the others see of this one.
    pub shared: &'static CpuShared,
    /// Clock, timer, lines.
    pub hardware: P::Hardware,
    /// Who may run.
    pub queue: RunQueue,
    /// When vCPUs want to be looked at.
    pub timers: Timers,
    /// What the scheduler's constants are.
    pub params: Params,
    /// The time-stamp counter's frequency.
    pub tsc: Frequency,
    /// How long whoever runs is left alone after it was interrupted because of another guest: 50 µs.
    pub quiet: Ticks,
    /// How old a vCPU's published statistics may be when it leaves the CPU: 1 ms.
    pub statistics_period: Ticks,
    /// Nanoseconds a tick, 32 bits behind the point.
    pub ns_per_tick: u64,
    /// vCPUs here that may run elsewhere.
    movable: u32,
    /// How many the others were told wait here; `u32::MAX` when they are to be told anew.
    told: u32,
    /// Processors to interrupt when they may be again.
    put_off: CpuSet,
    /// Where [`Self::timers`] has the moment of that: after all vCPUs, and before the moment to look around.
    put_off_slot: Slot,
    /// When the timer is set to interrupt; [`Tsc::NEVER`] = not.
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

    /// What this processor counts.
    #[inline]
    pub const fn tally(&self) -> &'static CpuTally {
        &self.shared.tally
    }

    /// What others left for this processor.
    #[inline]
    pub const fn mailbox(&self) -> &'static Mailbox {
        &self.shared.mailbox
    }

    /// The vCPU that runs.
    pub fn running(&self) -> Option<&'static VcpuShared> {
        self.queue.current().and_then(|slot| self.system.vcpu(slot))
    }

    /// Has a vCPU look at what was left for it: wakes it if it sleeps, here or by its processor. `cause` is the guest that left it.
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

    /// Has the processor that holds a vCPU look at it: at once, unless that interrupts another guest than `cause` too often.
    #[cold]
    pub fn post(&mut self, vcpu: &VcpuShared, cause: GuestId) {
        let holder = vcpu.holder();
        if self.system.cpu_table.cpu(holder).mailbox.post(vcpu.slot) == Interrupt::Needed {
            self.interrupt(holder, Some(cause), self.hardware.now());
        }
    }

    /// Interrupts a processor that has a notification, or sees to it that this is done when whoever runs there may be interrupted again.
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

    /// Has what was put off be done at `until`, or before.
    pub fn put_off_until(&mut self, until: Tsc) {
        let first = self.timers.get(self.put_off_slot).min(until);
        self.timers.set(self.put_off_slot, first);
        self.rearm();
    }

    /// Has this processor look around then, whoever runs.
    pub fn look_around_at(&mut self, at: Tsc) {
        self.timers.set(Slot(self.put_off_slot.0.saturating_add(1)), at);
    }

    /// Has the notifications that were left be looked at when whoever runs may be interrupted again.
    pub fn put_off_letters(&mut self, now: Tsc) {
        self.put_off.0 |= CpuSet::one(self.cpu).0;
        self.put_off_until(now + self.quiet);
    }

    /// Interrupts the processors for which that was put off, if they have not looked by themselves meanwhile. Nobody remembers which
    /// guests that was for, so it counts as another guest's interruption everywhere.
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

    /// Asks for a vCPU that waits for another processor, for a vCPU of its guest that runs here.
    #[cold]
    pub fn pull(&mut self, vcpu: &VcpuShared) {
        vcpu.ask_for(self.cpu);
        self.post(vcpu, vcpu.id.guest);
    }

    /// Asks a busy processor for a vCPU that waits there.
    #[cold]
    pub fn ask_for_work(&mut self, busy: CpuId, now: Tsc) {
        if self.system.cpu_table.cpu(busy).mailbox.ask() == Interrupt::Needed {
            self.interrupt(busy, None, now);
        }
    }

    /// Has another processor look around at once.
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

    /// Puts a vCPU that became runnable into the queue, and tells the runner that somebody waits.
    pub fn enqueue(&mut self, vcpu: &'static VcpuShared, now: Tsc) {
        let request = demand::request(vcpu, &self.params, self.tsc, now);
        match self.queue.wake(vcpu.slot, request, now) {
            Wake::Queued { decide_at: _ } => {
                if let Some(runner) = self.running() {
                    runner.publish_wanted(self.queue.slice_end().0);
                    runner.expect_pauses();
                }
                vcpu.expect_pauses();
                // The runner may go on without an exit of its own for as long as it likes.
                self.rearm();
                self.offer();
            }
            Wake::AlreadyRunnable | Wake::Idle => {}
        }
    }

    /// Somebody waits here: where another processor idles, this one looks around before it enters guest mode again. Either
    /// it sees that one idle, or that one sees what is spare.
    fn offer(&mut self) {
        self.tell_queued();
        if self.system.cpu_table.idle().0 != 0 {
            let _ = self.mailbox().ask();
        }
    }

    /// vCPUs that wait here and could run elsewhere: at most so many. Where nobody runs yet, one of them will.
    #[inline]
    pub fn spare(&self) -> u32 {
        self.queue.waiting().saturating_sub(u32::from(self.queue.current().is_none())).min(self.movable)
    }

    /// Tells the others how many wait here, unless they know.
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

    /// vCPUs here that may run elsewhere.
    pub const fn movable(&self) -> u32 {
        self.movable
    }

    /// One of them came or went.
    pub fn set_movable(&mut self, movable: u32) {
        self.movable = movable;
        self.told = u32::MAX;
    }

    /// Sets the timer for whatever comes first. A timer that is set too early stays: it costs one look, and moving it
    /// costs a register write at each switch.
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

    /// When the first timer is looked at. Where the runner was interrupted because of another guest a moment ago, other guests'
    /// timers wait until it may be interrupted again; its own does not, whatever stands before it.
    fn next_check(&self) -> Tsc {
        let (first, quiet_until) = (self.timers.first(), self.shared.quiet_until());
        match self.running() {
            Some(runner) if first < quiet_until && self.first_timer_owner() != Some(runner.id.guest) => {
                quiet_until.min(self.timers.get(runner.slot))
            }
            Some(_) | None => first,
        }
    }

    /// The guest whose timer is the first; `None` where there is none, or it is this processor's own.
    pub fn first_timer_owner(&self) -> Option<GuestId> {
        let first = self.timers.first_slot()?;
        self.system.vcpu(first).map(|vcpu| vcpu.id.guest)
    }

    /// Takes the interrupts that wait. Any of them may have been the timer, which is set anew only when the vCPU has left its turn: what
    /// follows is never [`Next::Resume`](crate::guest::next::Next::Resume).
    pub fn take_interrupts(&mut self) {
        self.hardware.take_interrupts();
        self.armed = Tsc::NEVER;
        self.tally().interrupts.add(1);
    }

    /// Sleeps until an interrupt; returns when that was, or `None` while it sleeps on.
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

    /// Notes how far off the clock has been, in a line and in a record. Nothing that was published changes.
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
        // Ends whatever firmware left on the line.
        self.hardware.telemetry_write(&[0]);
        for record in records {
            if let Ok(bytes) = postcard::to_allocvec_cobs(&record) {
                self.hardware.telemetry_write(&bytes);
            }
        }
    }
}
