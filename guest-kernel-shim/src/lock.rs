//! A spinlock for processors that may be off CPU.
//!
//! The lock is unfair: any processor that finds it free takes it. A fair lock would pass to a waiter that is off CPU,
//! and then each critical section would cost a vCPU switch. The lock word holds the holder's number, so a waiter can
//! see whether spinning helps: while the holder is on CPU the waiter spins; otherwise it gives its own CPU to the
//! holder.
//!
//! ```
//! use guest_kernel_shim::lock::Lock;
//!
//! static QUEUE_LENGTH: Lock<u32> = Lock::new(0);
//!
//! *QUEUE_LENGTH.lock() += 1;
//! let held = QUEUE_LENGTH.lock();
//! assert_eq!(*held, 1);
//! assert!(QUEUE_LENGTH.try_lock().is_none());
//! drop(held); // frees the lock, and then ends the critical section
//! assert!(QUEUE_LENGTH.try_lock().is_some());
//! ```

use crate::arch::cpu;
use crate::arch::guarded::{Guard, Guarded};
use crate::arch::percpu;
use crate::critical::{self, Critical};
use crate::{call, demand, platform};
use core::ops::{Deref, DerefMut};
use pv_abi::call::Code;
use pv_abi::demand::{Reason, WaitFor};
use pv_abi::protocol::lock_wait::{self, Wait};
use pv_abi::status;

/// How many PAUSEs a waiter executes after the hypervisor refused to switch to the holder.
const BACK_OFF: u32 = 16;

/// A value behind a spinlock. A lock that interrupt handlers take must not be taken with interrupts on.
pub struct Lock<T>(Guarded<T>);

/// Access to the value until this is dropped. The holder is in a critical section.
#[must_use = "the lock is free again when this is dropped"]
pub struct Held<'a, T> {
    value: Guard<'a, T>,
    /// Dropped after `value` frees the lock: only then may the hypervisor deschedule this vCPU.
    _critical: Critical,
}

impl<T> Lock<T> {
    /// Makes a free lock.
    pub const fn new(value: T) -> Self {
        Self(Guarded::new(value))
    }

    /// Takes the lock; waits while another processor holds it.
    #[inline]
    pub fn lock(&self) -> Held<'_, T> {
        loop {
            if let Some(held) = self.try_lock() {
                return held;
            }
            self.wait();
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<Held<'_, T>> {
        // The critical section begins before the lock is taken, so that the holder is always in one.
        let critical = critical::enter();
        let value = self.0.try_take(critical.processor())?;
        Some(Held { value, _critical: critical })
    }

    /// Waits until the lock word is free for a moment.
    #[cold]
    fn wait(&self) {
        while let Some(holder) = self.0.holder() {
            if platform::is_cooperative() {
                wait_for(holder);
            } else {
                cpu::pause();
            }
        }
        demand::set_wait_for(None);
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// Spins once if the holder is on CPU; otherwise gives this CPU to the holder.
fn wait_for(holder: usize) {
    let Some(other) = percpu::of(holder) else { return };
    let seq = match lock_wait::look(&other.status().0[status::word::DISPATCH_SEQ]) {
        Wait::Spin => return cpu::pause(),
        Wait::YieldTo(seq) => seq,
    };
    #[expect(clippy::cast_possible_truncation, reason = "the ABI compares the low half")]
    demand::set_wait_for(Some(WaitFor {
        vcpu_plus_one: u8::try_from(holder + 1).unwrap_or(0),
        reason: Reason::LOCK,
        seq: seq as u32,
    }));
    if call::yield_to(holder, seq) != Code::OK {
        for _ in 0..BACK_OFF {
            cpu::pause();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_held_is_refused_until_it_is_free() {
        let lock = Lock::new(1);
        let mut held = lock.lock();
        *held += 1;
        assert!(lock.try_lock().is_none());
        drop(held);
        assert_eq!(lock.try_lock().map(|held| *held), Some(2));
        assert!(lock.try_lock().is_some());
    }
}
