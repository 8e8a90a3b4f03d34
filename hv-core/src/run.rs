//! A processor's main loop: it picks a vCPU, runs it until the vCPU must leave the CPU, and acts on the reason; it sleeps
//! when no vCPU is runnable.

mod balance;
mod end;
mod leave;
mod migrate;
mod stop;

use crate::base::hardware::Hardware;
use crate::base::id::CpuId;
use crate::base::time::Tsc;
use crate::exit::before_entry::{self, Readiness};
use crate::exit::cpu::CpuContext;
use crate::exit::exit;
use crate::exit::input;
use crate::exit::kvm;
use crate::guest::next::Next;
use crate::guest::parking::Parking;
use crate::guest::platform::Platform;
use crate::guest::seam::{Processor, VirtualCpu};
use crate::guest::vcpu::Vcpu;
use crate::policy::balance::Balancer;
use crate::policy::cpu_shared::NameTag;
use crate::policy::presence::Attention;
use crate::policy::sched::{EntityId, Slot};
use crate::policy::trace::ExitClass;
use crate::policy::vcpu_shared::VcpuShared;
use alloc::boxed::Box;
use pv_abi::protocol::dispatch::is_on_cpu;
use pv_abi::protocol::flush::Flush;
use pv_abi::protocol::yield_wanted::Enter;

/// The slot of no vCPU: a machine has fewer vCPUs.
const NOBODY: Slot = Slot(u16::MAX);

/// A place for a vCPU in a processor's table; `None` while another processor holds the vCPU, or none does.
type Place<P> = Option<Box<Vcpu<P>>>;

/// A processor with the vCPUs that it holds.
pub struct Cpu<P: Platform> {
    processor: P::Processor,
    /// Run queue, timers, hardware, and what this processor shows the others.
    pub core: CpuContext<P>,
    /// The vCPUs that no processor holds.
    parking: &'static Parking<P>,
    /// The vCPUs that this processor holds, by slot. No other processor can reach them.
    vcpus: Box<[Place<P>]>,
    /// The vCPU whose FPU state is in the processor; [`NOBODY`] when it is no vCPU's.
    loaded: Slot,
    /// Start of the time in the hypervisor that is not accounted for yet, and the class that it counts under.
    left: (Tsc, ExitClass),
    /// When this processor's sleep began; `None` while it is awake.
    asleep: Option<Tsc>,
    /// Earliest moment at which this processor asks another one for work again.
    ask_after: Tsc,
    /// When weights and the placement of vCPUs are recomputed next.
    epoch_end: Tsc,
    /// When the clock is checked next, if a vCPU waits here then.
    clock_due: Tsc,
    balancer: Balancer,
    /// Whether this processor has seen that every guest has ended.
    over: bool,
}

impl<P: Platform> Cpu<P> {
    /// A processor that holds no vCPU yet.
    pub fn new(processor: P::Processor, core: CpuContext<P>, parking: &'static Parking<P>) -> Self {
        let vcpus = core.system.vcpus.iter().map(|_| None).collect();
        let left = (core.hardware.now(), ExitClass::Other);
        let clock_due = left.0 + core.tsc.ticks(balance::CLOCK_PERIOD_NS);
        let cpus = core.system.cpu_table.cpus().0.count_ones() as usize;
        let balancer = Balancer::new(cpus, core.system.guests.len());
        Self {
            processor,
            core,
            parking,
            vcpus,
            loaded: NOBODY,
            left,
            asleep: None,
            ask_after: Tsc(0),
            epoch_end: Tsc(0),
            clock_due,
            balancer,
            over: false,
        }
    }

    /// Runs until every guest has ended; returns true if all ended well. The first processor then writes the records.
    pub fn run_forever(&mut self) -> bool {
        let mut now = self.core.hardware.now();
        while !self.over {
            now = self.round(now);
        }
        for (cpu, _) in self.core.system.cpu_table.iter() {
            self.core.ask(cpu);
        }
        if self.core.cpu == CpuId(0) {
            self.core.judge_clock();
            self.core.write_records();
        }
        self.core.system.is_well()
    }

    /// Runs one turn of a vCPU, or sleeps once; returns when that ended.
    #[inline]
    fn round(&mut self, mut now: Tsc) -> Tsc {
        if let Some(since) = self.asleep {
            return self.sleep(since);
        }
        if !self.core.mailbox().is_empty() {
            now = self.take_notifications(now);
            if self.over {
                return now;
            }
        }
        now = self.wake_due(now);
        if self.core.queue.wanted() {
            now = self.share(now);
        }
        match self.core.queue.pick(now) {
            Some(slot) => self.run_slot(slot, now),
            None => self.idle(now),
        }
    }

    /// Runs one turn or sleeps once, for tests. Returns false once every guest has ended; nothing happens from then on.
    #[cfg(any(test, feature = "testkit"))]
    pub fn step(&mut self) -> bool {
        if self.core.system.is_alive() {
            self.round(self.core.hardware.now());
        }
        self.core.system.is_alive()
    }

    /// When weights and placement are recomputed next, for tests of guests that know that moment.
    #[cfg(any(test, feature = "testkit"))]
    pub const fn epoch_end(&self) -> Tsc {
        self.epoch_end
    }

    /// A vCPU that this processor holds, for tests that write its script and inspect its state.
    #[cfg(any(test, feature = "testkit"))]
    pub fn vcpu_mut(&mut self, slot: Slot) -> Option<&mut Vcpu<P>> {
        self.vcpu(slot)
    }

    #[inline]
    fn vcpu(&mut self, slot: Slot) -> Option<&mut Vcpu<P>> {
        self.vcpus.get_mut(usize::from(slot.0))?.as_deref_mut()
    }

    /// Handles the timers that are due: a vCPU looks at its own before it runs again. Returns when that was done.
    #[inline(always)] // on the way of every switch, and both vendors' loops call it
    fn wake_due(&mut self, now: Tsc) -> Tsc {
        if self.core.timers.first() <= now { self.wake_all_due(now) } else { now }
    }

    /// Handles each slot at most once: nothing here sets a timer to a moment that has passed.
    fn wake_all_due(&mut self, mut now: Tsc) -> Tsc {
        while let Some(slot) = self.core.timers.take_due(now) {
            let Some(vcpu) = self.core.system.vcpu(slot) else {
                input::poll(&mut self.core);
                self.core.kick_put_off(now);
                continue;
            };
            vcpu.request_attention(Attention::TIMER);
            match self.core.running() {
                Some(runner) if runner.id.guest != vcpu.id.guest => {
                    now = self.at_cost_of(vcpu, now, |cpu, now| cpu.core.wake_here(vcpu, now));
                }
                Some(_) | None => self.core.wake_here(vcpu, now),
            }
        }
        now
    }

    /// Does work on behalf of a vCPU, while another guest's vCPU may have the CPU; returns when the work was done. The guest
    /// of the former vCPU is charged for it, whatever happens to that vCPU meanwhile.
    fn at_cost_of(&mut self, vcpu: &VcpuShared, since: Tsc, work: impl FnOnce(&mut Self, Tsc)) -> Tsc {
        work(self, since);
        let done = self.core.hardware.now();
        self.core.queue.debit(EntityId(vcpu.id.guest.0), vcpu.slot, done.since(since));
        done
    }

    /// Gives the CPU to a vCPU until it leaves; returns when it left.
    fn run_slot(&mut self, slot: Slot, now: Tsc) -> Tsc {
        let comes = self.loaded != slot;
        if comes {
            self.unload(now);
        }
        let Some(vcpu) = self.vcpus.get_mut(usize::from(slot.0)).and_then(Option::as_deref_mut) else {
            return self.core.hardware.now();
        };
        let shared = vcpu.shared;
        if comes {
            self.loaded = slot;
            self.processor.switch_in(&mut vcpu.state);
            shared.tally.switches.add(1);
        }
        self.core.shared.publish_running(shared.name_tag);
        self.core.show_queued();
        let wanted = self.core.queue.wanted();
        if shared.publish_on(self.core.queue.slice_end().0, wanted) == Flush::Needed {
            come_back(vcpu, &mut self.core);
        }
        self.core.rearm();
        let next = turn(&mut self.processor, vcpu, &mut self.core, &mut self.left);
        let now = self.core.hardware.now();
        // A yield, the most frequent reason, uses the vCPU at hand; all other reasons look it up again.
        if let Next::Yield = next {
            leave::yield_cpu(vcpu, &mut self.core, now);
            return now;
        }
        self.leave(slot, next, now)
    }

    /// Takes the FPU state of the vCPU that ran last out of the processor.
    #[inline]
    fn unload(&mut self, now: Tsc) {
        let Some(before) = self.vcpus.get_mut(usize::from(self.loaded.0)).and_then(Option::as_deref_mut)
        else {
            return;
        };
        self.processor.switch_out(&mut before.state);
        // The queue may take the CPU from a vCPU that did not leave it: a moment before its slice's end, or for another vCPU
        // that it started itself.
        if is_on_cpu(before.shared.dispatch_seq()) {
            leave::preempt(before, &mut self.core, now);
        }
        // The time up to the scheduling decision counts for the vCPU that leaves; the decision itself, and the way in, for
        // the next vCPU.
        before.note_hypervisor(self.left.1, self.left.0, now);
        self.left.0 = now;
    }

    /// No vCPU is runnable: asks a busy processor for work, and sleeps until something may have changed.
    fn idle(&mut self, now: Tsc) -> Tsc {
        self.core.rearm();
        self.core.shared.publish_running(NameTag::NOBODY);
        self.core.show_queued();
        self.core.system.cpu_table.rest(self.core.cpu);
        self.ask_for_work(now);
        let now = self.core.hardware.now();
        // The time up to the sleep counts for the vCPU that ran last; the sleep counts for no vCPU, and the way back for the
        // vCPU that wakes.
        if let Some(before) = self.vcpus.get(usize::from(self.loaded.0)).and_then(Option::as_deref) {
            before.note_hypervisor(self.left.1, self.left.0, now);
        }
        self.left.0 = now;
        if self.core.mailbox().go_away() == Enter::Reschedule {
            return self.rise();
        }
        self.asleep = Some(now);
        self.sleep(now)
    }

    /// Sleeps, or sleeps on; the sleep began at `since`.
    fn sleep(&mut self, since: Tsc) -> Tsc {
        if let Some(now) = self.core.wait(since) {
            self.asleep = None;
            self.left.0 = now;
            self.core.mailbox().come_back();
            return self.rise();
        }
        self.core.hardware.now()
    }

    fn rise(&mut self) -> Tsc {
        self.core.system.cpu_table.rise(self.core.cpu);
        input::poll(&mut self.core);
        self.core.hardware.now()
    }
}

/// Does what was left for a vCPU while it was off CPU: a flush, and for a KVM guest the update of its steal-time record.
#[cold]
fn come_back<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) {
    if vcpu.guest.is_kvm() { kvm::steal::come(vcpu, core) } else { vcpu.state.flush() }
}

/// Runs a vCPU until the processor must look at something else: the exit path, top to bottom.
fn turn<P: Platform>(
    processor: &mut P::Processor,
    vcpu: &mut Vcpu<P>,
    core: &mut CpuContext<P>,
    left: &mut (Tsc, ExitClass),
) -> Next {
    let (mut since, mut class) = *left;
    let next = loop {
        match before_entry::check(vcpu, core) {
            Readiness::Go => {}
            Readiness::Sleep => break Next::Block,
            Readiness::Stop => break Next::Park,
            Readiness::Busy => {
                core.take_interrupts();
                break Next::Reschedule;
            }
        }
        if core.mailbox().go_away() == Enter::Reschedule {
            break Next::Resume;
        }
        let entered = core.hardware.now();
        vcpu.note_hypervisor(class, since, entered);
        let exit = processor.run(&mut vcpu.state);
        core.mailbox().come_back();
        since = core.hardware.now();
        class = exit::class(&exit, &vcpu.state);
        vcpu.note_exit(class, entered, since);
        let next = exit::dispatch(exit, vcpu, core);
        if !matches!(next, Next::Resume) {
            break next;
        }
    };
    *left = (since, class);
    next
}
