//! A spinlock for processors that may be off CPU.
//!
//! Whoever finds it free takes it: no order among the waiters. A fair lock would hand it to a waiter that is off CPU, and
//! everybody would wait for one switch per critical section. The holder's number is the lock word, so a waiter knows
//! whether spinning is of use: while the holder is on CPU it spins, else it gives its own CPU to the holder.

use crate::arch::percpu;
use crate::critical::{self, Critical};
use crate::{call, demand, ipi, platform};
use core::sync::atomic::{AtomicU32, Ordering};
use pv_abi::call::Code;
use pv_abi::demand::{Reason, WaitFor};
use pv_abi::protocol::lock_wait::{self, Wait};
use pv_abi::status;

pub use crate::arch::guarded::{Held, Lock};

const FREE: u32 = 0;
/// Rounds of PAUSE after the hypervisor could not help.
const BACK_OFF: u32 = 16;

/// The lock without what it protects.
#[derive(Debug)]
pub struct RawLock {
    /// [`FREE`], or the holder's number and one.
    holder: AtomicU32,
}

impl RawLock {
    /// A free lock.
    pub(crate) const fn new() -> Self {
        Self { holder: AtomicU32::new(FREE) }
    }

    /// Takes the lock, after waiting for it if need be.
    #[inline]
    pub(crate) fn acquire(&self) -> Critical {
        loop {
            if let Some(critical) = self.try_acquire() {
                return critical;
            }
            self.wait();
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_acquire(&self) -> Option<Critical> {
        // Before the lock is taken, so that there is no moment in which a holder is not in a critical section.
        let critical = critical::enter();
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_VCPUS")]
        let me = critical.processor() as u32 + 1;
        self.holder.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(critical)
    }

    /// Frees the lock.
    #[inline]
    pub(crate) fn release(&self) {
        self.holder.store(FREE, Ordering::Release);
    }

    /// Waits until the lock was free for a moment.
    #[cold]
    fn wait(&self) {
        loop {
            match self.holder.load(Ordering::Relaxed) {
                FREE => break,
                holder if platform::is_cooperative() => wait_for(holder),
                _ => ipi::relax(),
            }
        }
        demand::set_wait_for(None);
    }
}

/// Spins once while the holder is on CPU; gives it this CPU otherwise.
fn wait_for(holder_plus_one: u32) {
    let holder = holder_plus_one.saturating_sub(1) as usize;
    let Some(cpu) = percpu::of(holder) else { return };
    let seq = match lock_wait::look(&cpu.status().0[status::word::DISPATCH_SEQ]) {
        Wait::Spin => return ipi::relax(),
        Wait::YieldTo(seq) => seq,
    };
    #[expect(clippy::cast_possible_truncation, reason = "the ABI compares the low half")]
    demand::set_wait_for(Some(WaitFor {
        vcpu_plus_one: u8::try_from(holder_plus_one).unwrap_or(0),
        reason: Reason::LOCK,
        seq: seq as u32,
    }));
    if call::yield_to(holder, seq) != Code::OK {
        for _ in 0..BACK_OFF {
            ipi::relax();
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
