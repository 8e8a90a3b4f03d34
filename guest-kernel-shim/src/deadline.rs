//! Timers of each processor: a queue, and one hardware deadline that is moved only when the earliest changes. The kernel
//! sees this as [`crate::timer`].

mod hardware;
mod queue;

use crate::arch::percpu;
use crate::{clock, interrupt};
use pv_abi::MAX_VCPUS;
use queue::Queue;
use spin::Mutex;

pub use queue::{Handler, Id};

/// Timers that a processor has room for.
pub const CAPACITY: usize = 32;

static QUEUES: [Mutex<Queue<CAPACITY>>; MAX_VCPUS] = [const { Mutex::new(Queue::new()) }; MAX_VCPUS];

/// Calls `handler(argument)` on this processor, with interrupts off, when the TSC has passed `at_tsc`. `None` when the
/// queue is full, and where nobody watches a deadline: a cooperative guest has no timers without ARM_BY_STORE.
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

/// As [`at`], from now on.
pub fn after_ns(delay_ns: u64, handler: Handler, argument: u64) -> Option<Id> {
    at(clock::ticks().saturating_add(clock::ticks_from_ns(delay_ns)), handler, argument)
}

/// Removes a timer of this processor; answers whether it was still there.
pub fn cancel(id: Id) -> bool {
    on_queue(|queue| {
        let found = queue.remove(id);
        hardware::arm(queue.earliest_tsc());
        found
    })
}

/// Moves a timer of this processor; answers whether it was still there.
#[inline]
pub fn rearm(id: Id, at_tsc: u64) -> bool {
    on_queue(|queue| {
        let found = queue.rearm(id, at_tsc);
        hardware::arm(queue.earliest_tsc());
        found
    })
}

/// Whether this processor looks at its timers whenever it is about to idle, and no other moment matters: a kernel that
/// works off a queue, say. A cooperative guest then publishes its earliest deadline by a store and never calls for an
/// earlier look; the hypervisor still wakes it from [`idle`](crate::idle). Elsewhere nothing changes: without a
/// hypervisor that reads the store, the hardware must be told.
pub fn take_when_idle(does: bool) {
    hardware::look_when_idle(does);
}

/// Runs what is due, if this processor takes timers when it idles. Called with interrupts off.
#[inline]
pub(crate) fn before_idling() {
    if hardware::is_looking_when_idle()
        && queue().lock().earliest_tsc().is_some_and(|at_tsc| at_tsc <= clock::ticks())
    {
        expire();
    }
}

/// Runs what is due and arms the next deadline. Called with interrupts off.
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

/// Makes the hardware of this processor watch its deadline.
pub(crate) fn start_local() {
    hardware::start();
}

/// Whether anybody watches deadlines.
pub(crate) fn is_watched() -> bool {
    hardware::is_there()
}

fn queue() -> &'static Mutex<Queue<CAPACITY>> {
    QUEUES.get(percpu::this().index()).unwrap_or(&QUEUES[0])
}

fn on_queue<T>(action: impl FnOnce(&mut Queue<CAPACITY>) -> T) -> T {
    interrupt::without(|| action(&mut queue().lock()))
}
