//! What a scripted processor and its surroundings have in common: the clock, the timer, the lines.

use crate::base::time::Tsc;
use crate::policy::sched::Slot;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// Entries into guest mode after which a test has run away.
const MAX_ENTRIES: u64 = 1_000_000;

/// Looks at the clock after which it is the hypervisor that has.
const MAX_LOOKS: u64 = 50_000_000;

/// Why nothing will ever happen again by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stuck {
    /// Everybody sleeps and no timer is armed.
    Asleep,
    /// A vCPU's script is over, it spins, and no timer is armed.
    Spinning(Slot),
}

/// Clock, timer and lines.
#[derive(Debug, Default)]
pub struct World {
    now: Cell<u64>,
    /// Ticks that each look at the clock takes: what the hypervisor's own work costs.
    pub look_ticks: Cell<u64>,
    /// When the timer interrupts; 0 = it is not armed.
    armed: Cell<u64>,
    interrupt: Cell<bool>,
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
        self.advance(self.look_ticks.get());
        self.now()
    }

    /// Every moment that the timer was set to, in order.
    pub fn arms(&self) -> Vec<Tsc> {
        self.arms.borrow().clone()
    }

    /// Entries into guest mode so far.
    pub const fn entries(&self) -> u64 {
        self.entries.get()
    }

    /// When the timer will interrupt.
    pub const fn armed(&self) -> Option<Tsc> {
        match self.armed.get() {
            0 => None,
            at => Some(Tsc(at)),
        }
    }

    /// Raises an interrupt that is not the timer's.
    pub fn interrupt(&self) {
        self.interrupt.set(true);
    }

    /// What people have seen so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console.borrow()).into_owned()
    }

    /// Why nothing goes on, once; `None` when something does.
    pub(super) fn take_stuck(&self) -> Option<Stuck> {
        self.stuck.take()
    }

    pub(super) fn arm(&self, at: Tsc) {
        self.arms.borrow_mut().push(at);
        self.armed.set(if at == Tsc::NEVER { 0 } else { at.0.max(1) });
    }

    pub(super) fn interrupt_waits(&self) -> bool {
        self.interrupt.get() || self.armed().is_some_and(|at| at <= self.now())
    }

    pub(super) fn take_interrupts(&self) {
        self.interrupt.set(false);
        if self.interrupt_waits() {
            self.armed.set(0);
        }
    }

    /// Jumps to the next interrupt.
    pub(super) fn wait(&self) {
        match self.armed() {
            _ if self.interrupt_waits() => {}
            Some(at) => self.now.set(at.0),
            None => self.stuck.set(Some(Stuck::Asleep)),
        }
        self.take_interrupts();
    }

    /// Lets `ticks` pass in a guest, up to the next interrupt; returns how many are left then.
    pub(super) fn pass(&self, ticks: u64) -> u64 {
        let end = self.now.get() + ticks;
        let until = self.armed().map_or(end, |at| end.min(at.0));
        self.now.set(until);
        end - until
    }

    /// A script is over: time passes until the timer interrupts, unless the test waits for this very moment.
    pub(super) fn spin(&self, slot: Slot) {
        if self.awaited.get() == Some(slot) {
            return;
        }
        match self.armed() {
            Some(at) => self.now.set(at.0.max(self.now.get())),
            None => self.stuck.set(Some(Stuck::Spinning(slot))),
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
