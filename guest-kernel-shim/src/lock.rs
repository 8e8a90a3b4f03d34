//! A spinlock for processors that may be off CPU.
//!
//! Whoever finds it free takes it: no order among the waiters. A fair lock would hand it to a waiter that is off CPU, and
//! everybody would wait for one switch per critical section. The holder's number is the lock word, so a waiter knows
//! whether spinning is of use: while the holder is on CPU it spins, else it gives its own CPU to the holder.

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

/// Rounds of PAUSE after the hypervisor could not help.
const BACK_OFF: u32 = 16;

/// A value behind a spinlock. Not to be taken both inside and outside of interrupt handlers.
pub struct Lock<T>(Guarded<T>);

/// The value, until this is dropped. The holder is in a critical section.
#[must_use = "the lock is free again when this is dropped"]
pub struct Held<'a, T> {
    value: Guard<'a, T>,
    /// Dropped after the lock is free: only then may the hypervisor take the CPU.
    _critical: Critical,
}

impl<T> Lock<T> {
    /// A free lock.
    pub const fn new(value: T) -> Self {
        Self(Guarded::new(value))
    }

    /// Takes the lock, after waiting for it if need be.
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
        // Before the lock is taken, so that there is no moment in which a holder is not in a critical section.
        let critical = critical::enter();
        let value = self.0.try_take(critical.processor())?;
        Some(Held { value, _critical: critical })
    }

    /// Waits until the lock was free for a moment.
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

/// Spins once while the holder is on CPU; gives it this CPU otherwise.
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
