//! What a scripted processor and its hardware have in common: the clock, the timer, the lines.

use crate::base::id::{CpuId, MAX_CPUS};
use crate::base::time::Tsc;
use crate::policy::sched::Slot;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// Entries into guest mode after which a test has run away.
const MAX_ENTRIES: u64 = 5_000_000;

/// Looks at the clock after which it is the hypervisor that has.
const MAX_LOOKS: u64 = 50_000_000;

/// How long one of several processors runs a guest before another one has its turn, in ticks, unless a test says otherwise.
const QUANTUM: u64 = 2_000;

/// Why nothing will ever happen again by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stuck {
    /// Everybody sleeps and no timer is armed.
    Asleep,
    /// A vCPU's script is over, it spins, and no timer is armed.
    Spinning(Slot),
}

/// What is one processor's.
#[derive(Debug, Default)]
struct Local {
    /// When the timer interrupts; 0 = it is not armed.
    armed: Cell<u64>,
    interrupt: Cell<bool>,
    /// It sleeps, or spins at the end of a script.
    rests: Cell<bool>,
    /// Interrupts that other processors sent.
    kicks: Cell<u64>,
}

/// Clock, timers and lines. One clock for all processors, which take turns: time that passes for one passes for all.
#[derive(Debug)]
pub struct World {
    now: Cell<u64>,
    cpus: Box<[Local]>,
    /// Ticks that each look at the clock takes: what the hypervisor's own work costs.
    pub clock_reads: Cell<u64>,
    /// How long one of several processors runs a guest before another one has its turn.
    pub quantum: Cell<u64>,
    /// Bytes that people's line still takes; `usize::MAX`: any number.
    pub console_room: Cell<usize>,
    /// How far off the clock is, in millionths, if the machine can tell.
    pub clock_off_ppm: Cell<Option<i64>>,
    arms: RefCell<Vec<Tsc>>,
    entries: Cell<u64>,
    looks: Cell<u64>,
    /// The vCPU whose script a test waits for the end of.
    pub(super) awaited: Cell<Option<Slot>>,
    stuck: Cell<Option<Stuck>>,
    pub(super) console: RefCell<Vec<u8>>,
    pub(super) telemetry: RefCell<Vec<u8>>,
    pub(super) input: RefCell<VecDeque<u8>>,
}

impl World {
    /// The world of so many processors, at moment zero.
    pub fn new(cpus: u8) -> Self {
        Self {
            now: Cell::new(0),
            cpus: (0..cpus).map(|_| Local::default()).collect(),
            clock_reads: Cell::new(0),
            quantum: Cell::new(QUANTUM),
            console_room: Cell::new(usize::MAX),
            clock_off_ppm: Cell::new(None),
            arms: RefCell::default(),
            entries: Cell::new(0),
            looks: Cell::new(0),
            awaited: Cell::new(None),
            stuck: Cell::new(None),
            console: RefCell::default(),
            telemetry: RefCell::default(),
            input: RefCell::default(),
        }
    }

    fn local(&self, cpu: CpuId) -> &Local {
        &self.cpus[usize::from(cpu.0) % MAX_CPUS]
    }

    /// The time, without taking any.
    pub const fn now(&self) -> Tsc {
        Tsc(self.now.get())
    }

    /// Lets `ticks` pass that nobody works in.
    pub fn advance(&self, ticks: u64) {
        self.now.set(self.now.get() + ticks);
    }

    /// The time, as the hypervisor looks at it.
    #[expect(clippy::panic, reason = "a hypervisor that has run away is to fail its test")]
    pub(super) fn look(&self) -> Tsc {
        self.looks.set(self.looks.get() + 1);
        if self.looks.get() > MAX_LOOKS {
            panic!("more than {MAX_LOOKS} looks at the clock");
        }
        self.advance(self.clock_reads.get());
        self.now()
    }

    /// Every moment that a timer was set to, in order.
    pub fn arms(&self) -> Vec<Tsc> {
        self.arms.borrow().clone()
    }

    /// Entries into guest mode so far.
    pub const fn entries(&self) -> u64 {
        self.entries.get()
    }

    /// When the first processor's timer will interrupt.
    pub fn armed(&self) -> Option<Tsc> {
        self.armed_at(CpuId(0))
    }

    fn armed_at(&self, cpu: CpuId) -> Option<Tsc> {
        match self.local(cpu).armed.get() {
            0 => None,
            at => Some(Tsc(at)),
        }
    }

    /// Raises an interrupt at the first processor that is not the timer's.
    pub fn interrupt(&self) {
        self.local(CpuId(0)).interrupt.set(true);
    }

    /// A processor interrupts another one.
    pub(super) fn kick(&self, cpu: CpuId) {
        let local = self.local(cpu);
        local.interrupt.set(true);
        local.kicks.set(local.kicks.get() + 1);
    }

    /// Interrupts that a processor got from others.
    pub fn kicks(&self, cpu: CpuId) -> u64 {
        self.local(cpu).kicks.get()
    }

    /// What people have seen so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console.borrow()).into_owned()
    }

    /// Why nothing goes on, once; `None` when something does.
    pub(super) fn take_stuck(&self) -> Option<Stuck> {
        self.stuck.take()
    }

    pub(super) fn arm(&self, cpu: CpuId, at: Tsc) {
        self.arms.borrow_mut().push(at);
        self.local(cpu).armed.set(if at == Tsc::NEVER { 0 } else { at.0.max(1) });
    }

    pub(super) fn interrupt_waits(&self, cpu: CpuId) -> bool {
        self.local(cpu).interrupt.get() || self.armed_at(cpu).is_some_and(|at| at <= self.now())
    }

    pub(super) fn take_interrupts(&self, cpu: CpuId) {
        let local = self.local(cpu);
        if self.interrupt_waits(cpu) {
            local.rests.set(false);
        }
        local.interrupt.set(false);
        if self.interrupt_waits(cpu) {
            local.armed.set(0);
        }
    }

    /// Sleeps: when everybody rests, until the next timer. False when it is another processor's turn.
    pub(super) fn wait(&self, cpu: CpuId) -> bool {
        if !self.interrupt_waits(cpu) {
            self.rest(cpu, Stuck::Asleep);
        }
        let wakes = self.interrupt_waits(cpu) || !self.takes_turns();
        if wakes {
            self.take_interrupts(cpu);
        }
        wakes
    }

    /// A processor has nothing to do by itself. When none has, time passes until the first timer interrupts.
    fn rest(&self, cpu: CpuId, why: Stuck) {
        self.local(cpu).rests.set(true);
        let ids = || (0..).map(CpuId).take(self.cpus.len());
        if ids().any(|cpu| !self.local(cpu).rests.get() || self.interrupt_waits(cpu)) {
            return;
        }
        match ids().filter_map(|cpu| self.armed_at(cpu)).min() {
            Some(at) => self.now.set(at.0.max(self.now.get())),
            None => self.stuck.set(Some(why)),
        }
    }

    /// Lets `ticks` pass in a guest, up to the next interrupt, or until another processor has its turn; returns how many are
    /// left then.
    pub(super) fn pass(&self, cpu: CpuId, ticks: u64) -> u64 {
        self.local(cpu).rests.set(false);
        let end = self.now.get() + ticks;
        let until = self.armed_at(cpu).map_or(end, |at| end.min(at.0));
        let until = if self.takes_turns() { until.min(self.now.get() + self.quantum.get()) } else { until };
        self.now.set(until);
        end - until
    }

    /// Whether there are several processors: a guest is then interrupted for no other reason than that its turn is over.
    pub(super) const fn takes_turns(&self) -> bool {
        self.cpus.len() > 1
    }

    /// A script is over: time passes until a timer interrupts, unless the test waits for this very moment.
    pub(super) fn spin(&self, cpu: CpuId, slot: Slot) {
        if self.awaited.get() == Some(slot) {
            return;
        }
        if self.takes_turns() {
            let _ = self.pass(cpu, self.quantum.get());
        } else {
            self.rest(cpu, Stuck::Spinning(slot));
        }
    }

    #[expect(clippy::panic, reason = "a test that has run away is to fail")]
    pub(super) fn count_entry(&self) {
        self.entries.set(self.entries.get() + 1);
        if self.entries.get() > MAX_ENTRIES {
            panic!("more than {MAX_ENTRIES} entries into guest mode");
        }
    }
}
