//! The life of a processor: pick a vCPU, run it until it must leave the CPU, do what that asks for; sleep when there is
//! nobody.

mod end;
mod leave;

use crate::base::hardware::{GuestRam, Hardware};
use crate::base::time::Tsc;
use crate::dispatch::core::Core;
use crate::dispatch::entry::{self, Readiness};
use crate::dispatch::exit;
use crate::dispatch::next::Next;
use crate::dispatch::vcpu::Vcpu;
use crate::dispatch::vt::Processor;
use crate::policy::guest::Image;
use crate::policy::publish::attention;
use crate::policy::sched::Slot;
use crate::policy::trace::ExitClass;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;
use pv_abi::protocol::dispatch::is_on_cpu;
use pv_abi::protocol::flush::Flush;

/// No vCPU's slot: run queues give out fewer.
const NOBODY: Slot = Slot(u16::MAX);

/// A processor with its vCPUs.
pub struct Cpu<P: Processor, H, R: GuestRam + 'static> {
    processor: P,
    /// Queues, timers, counters, lines.
    pub core: Core<H, R>,
    /// By slot.
    vcpus: Vec<Box<Vcpu<P::Vcpu, R>>>,
    /// How each guest is made again, by id.
    images: Vec<Image>,
    /// Restarts that each guest has left, by id.
    restarts: Vec<u32>,
    /// Whose FPU state is in the processor; [`NOBODY`] when it is no vCPU's.
    loaded: Slot,
    /// Guests that have not ended.
    alive: usize,
    /// No guest ended badly so far.
    well: bool,
    /// When the time in the hypervisor began that is not booked yet, and under what.
    left: (Tsc, ExitClass),
}

impl<P: Processor, H: Hardware, R: GuestRam> Cpu<P, H, R> {
    /// A processor that will run `vcpus`, by slot. `images` are the guests' kernels, by id.
    pub fn new(
        processor: P,
        core: Core<H, R>,
        vcpus: Vec<Box<Vcpu<P::Vcpu, R>>>,
        images: Vec<Image>,
    ) -> Self {
        let restarts = core.guests.iter().map(|guest| guest.config.restarts).collect();
        let alive = core.guests.len();
        let left = (core.hardware.now(), ExitClass::Other);
        Self { processor, core, vcpus, images, restarts, loaded: NOBODY, alive, well: true, left }
    }

    /// Runs until every guest has ended; true when all ended well.
    pub fn run_forever(&mut self) -> bool {
        let mut now = self.core.hardware.now();
        while self.alive > 0 {
            now = self.round(now);
        }
        self.core.write_records();
        self.well
    }

    /// One turn, or one sleep; returns when it ended.
    #[inline]
    fn round(&mut self, now: Tsc) -> Tsc {
        self.wake_due(now);
        match self.core.queue.pick(now) {
            Some(slot) => self.run_slot(slot, now),
            None => self.idle(),
        }
    }

    /// One turn or one sleep, for tests. False when every guest has ended, and nothing happens any more.
    #[cfg(any(test, feature = "testkit"))]
    pub fn step(&mut self) -> bool {
        if self.alive > 0 {
            self.round(self.core.hardware.now());
        }
        self.alive > 0
    }

    /// A vCPU, for tests that write scripts and look at what became of them.
    #[cfg(any(test, feature = "testkit"))]
    pub fn vcpu_mut(&mut self, slot: Slot) -> Option<&mut Vcpu<P::Vcpu, R>> {
        self.vcpus.get_mut(usize::from(slot.0)).map(Box::as_mut)
    }

    /// Whoever's moment has come is looked at before it runs again.
    #[inline]
    fn wake_due(&mut self, now: Tsc) {
        while let Some(slot) = self.core.timers.take_due(now) {
            if let Some(vcpu) = self.core.shared.get(usize::from(slot.0)).copied() {
                vcpu.attention.fetch_or(attention::TIMER, SeqCst);
                self.core.wake(vcpu, now);
            }
        }
    }

    /// Gives the CPU to a vCPU, until it leaves; returns when that was.
    fn run_slot(&mut self, slot: Slot, now: Tsc) -> Tsc {
        self.load(slot, now);
        let Some(vcpu) = self.vcpus.get_mut(usize::from(slot.0)) else { return self.core.hardware.now() };
        let wanted = self.core.queue.wanted();
        if vcpu.shared.publish_on(self.core.queue.slice_end().0, wanted) == Flush::Needed {
            self.processor.flush(&mut vcpu.state);
        }
        self.core.rearm();
        let next = turn(&mut self.processor, vcpu, &mut self.core, &mut self.left);
        let now = self.core.hardware.now();
        // The usual way out has the vCPU at hand; the others look it up again.
        if let Next::Yield = next {
            leave::yield_cpu(vcpu, &mut self.core, now);
        } else {
            self.leave(slot, next, now);
        }
        now
    }

    /// Brings a vCPU's FPU state and address-space tag into the processor, unless they are there still.
    #[inline]
    fn load(&mut self, slot: Slot, now: Tsc) {
        if self.loaded == slot {
            return;
        }
        if let Some(before) = self.vcpus.get_mut(usize::from(self.loaded.0)) {
            self.processor.switch_out(&mut before.state);
            // The queue may take the CPU from one that did not leave it: a moment before its slice's end, or for one that
            // it started itself.
            if is_on_cpu(before.shared.dispatch_seq()) {
                leave::preempt(before, &mut self.core, now);
            }
            // The way to the decision is the leaver's; the decision itself, and the way in, the comer's.
            before.note_hypervisor(self.left.1, self.left.0, now);
            self.left.0 = now;
        }
        if let Some(vcpu) = self.vcpus.get_mut(usize::from(slot.0)) {
            self.processor.switch_in(&mut vcpu.state);
        }
        self.core.counters.fpu_switches += 1;
        self.loaded = slot;
    }

    /// Nobody can run: sleeps until something may have changed.
    fn idle(&mut self) -> Tsc {
        self.core.rearm();
        // The way to sleep is the leaver's; the sleep is nobody's, and the way back is whoever's wakes.
        if let Some(before) = self.vcpus.get_mut(usize::from(self.loaded.0)) {
            before.note_hypervisor(self.left.1, self.left.0, self.core.hardware.now());
        }
        self.left.0 = self.core.wait();
        self.core.poll_input();
        self.core.hardware.now()
    }
}

/// Runs a vCPU until something other than itself must be looked at: the exit path, top to bottom.
fn turn<P: Processor, H: Hardware, R: GuestRam>(
    processor: &mut P,
    vcpu: &mut Vcpu<P::Vcpu, R>,
    core: &mut Core<H, R>,
    left: &mut (Tsc, ExitClass),
) -> Next {
    let (mut since, mut class) = *left;
    let next = loop {
        if entry::settle(vcpu, core) == Readiness::Sleep {
            break Next::Block;
        }
        let entered = core.hardware.now();
        vcpu.note_hypervisor(class, since, entered);
        let exit = processor.run(&mut vcpu.state);
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
