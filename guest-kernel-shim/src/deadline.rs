//! The timer queue of each processor, and the hardware deadline, which moves only when the earliest timer changes.
//! Kernels use it through [`crate::timer`]; it stands apart because idling looks at it too.

mod hardware;
mod queue;

use crate::arch::percpu;
use crate::{clock, interrupt};
use pv_abi::MAX_VCPUS;
use queue::Queue;
use spin::Mutex;

pub use queue::{Handler, Id};

/// How many timers a processor can have.
pub const CAPACITY: usize = 32;

static QUEUES: [Mutex<Queue<CAPACITY>>; MAX_VCPUS] = [const { Mutex::new(Queue::new()) }; MAX_VCPUS];

/// Calls `handler(argument)` on this processor, with interrupts off, once the TSC reaches `at_tsc`. Returns `None` if
/// the queue is full, or if nothing watches deadlines: a cooperative guest has no timers without ARM_BY_STORE.
pub fn at(at_tsc: u64, handler: Handler, argument: u64) -> Option<Id> {
    if !hardware::is_there() {
        return None;
    }
    on_queue(|queue| {
        let id = queue.insert(at_tsc, handler, argument)?;
        hardware::arm(queue.earliest_tsc());
        Some(id)
    })
}

/// As [`at`], `delay_ns` from now.
pub fn after_ns(delay_ns: u64, handler: Handler, argument: u64) -> Option<Id> {
    at(clock::ticks().saturating_add(clock::ticks_from_ns(delay_ns)), handler, argument)
}

/// Removes a timer of this processor; returns whether it was still in the queue.
pub fn cancel(id: Id) -> bool {
    on_queue(|queue| {
        let found = queue.remove(id);
        hardware::arm(queue.earliest_tsc());
        found
    })
}

/// Moves a timer of this processor; returns whether it was still in the queue.
#[inline]
pub fn rearm(id: Id, at_tsc: u64) -> bool {
    on_queue(|queue| {
        let found = queue.rearm(id, at_tsc);
        hardware::arm(queue.earliest_tsc());
        found
    })
}

/// Declares whether this processor checks its timers before it idles, and needs no other wake-up for them, such as a
/// kernel that works off a queue. In a cooperative guest, the processor then stores its earliest deadline but never
/// calls the hypervisor to watch it sooner; the hypervisor still wakes it from [`idle`](crate::idle). The other modes
/// ignore this, because only the hardware can wake them.
pub fn take_when_idle(does: bool) {
    hardware::look_when_idle(does);
}

/// Runs timers that are due, if this processor checks them before it idles. The caller has interrupts off.
#[inline]
pub(crate) fn before_idling() {
    if hardware::is_looking_when_idle()
        && queue().lock().earliest_tsc().is_some_and(|at_tsc| at_tsc <= clock::ticks())
    {
        expire();
    }
}

/// Runs timers that are due and arms the next deadline. The caller has interrupts off.
pub(crate) fn expire() {
    let queue = queue();
    loop {
        let due = queue.lock().pop_due(clock::ticks());
        match due {
            Some((handler, argument)) => handler(argument),
            None => break,
        }
    }
    hardware::fired(queue.lock().earliest_tsc());
}

/// Sets up the timer hardware of this processor.
pub(crate) fn start_local() {
    hardware::start();
}

/// Whether the hardware or the hypervisor watches deadlines.
pub(crate) fn is_watched() -> bool {
    hardware::is_there()
}

fn queue() -> &'static Mutex<Queue<CAPACITY>> {
    QUEUES.get(percpu::this().index()).unwrap_or(&QUEUES[0])
}

fn on_queue<T>(action: impl FnOnce(&mut Queue<CAPACITY>) -> T) -> T {
    interrupt::without(|| action(&mut queue().lock()))
}
