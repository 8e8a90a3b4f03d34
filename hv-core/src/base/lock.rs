//! Locks in a written order (docs/src/invariants.md, "Locks"): a debug build on the host checks that a thread takes a lock
//! only while all locks that it holds are of lower rank.

use core::ops::{Deref, DerefMut};
use spin::{Mutex, MutexGuard};

/// A lock's place in the order: a processor may take a lock only while all locks that it holds are of lower rank.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Rank {
    /// The connection state of guests' channels.
    ChannelLinks,
    /// A guest's console ring.
    Console,
    /// A guest's virtio devices.
    Virtio,
    /// The unfinished line of a guest's console output.
    Line,
    /// A guest's memory in transit.
    Memory,
    /// Any lock under which the hypervisor takes no other one.
    Leaf,
}

/// A value that one processor at a time may access. Interrupts are off while the lock is held (I-1), and its holder never
/// sleeps.
#[derive(Debug)]
pub struct Lock<T> {
    rank: Rank,
    inner: Mutex<T>,
}

/// Access to a locked value; dropping it releases the lock.
pub struct Guard<'a, T> {
    inner: MutexGuard<'a, T>,
    _held: held::Held,
}

impl<T> Lock<T> {
    /// An open lock of rank `rank` around `value`.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: Mutex::new(value) }
    }

    /// Takes the lock; spins while another processor holds it.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        let held = held::Held::take(self.rank);
        Guard { inner: self.inner.lock(), _held: held }
    }

    /// Takes the lock, or returns `None` if it is held.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let held = held::Held::take(self.rank);
        Some(Guard { inner: self.inner.try_lock()?, _held: held })
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// The ranks of the locks that this thread holds, in builds that check the order.
#[cfg(all(debug_assertions, any(test, feature = "testkit")))]
mod held {
    use super::Rank;
    use std::cell::Cell;

    std::thread_local! {
        /// Bit n: a lock of rank n is held.
        static RANKS: Cell<u8> = const { Cell::new(0) };
    }

    pub struct Held(Rank);

    impl Held {
        #[expect(clippy::panic, reason = "a lock out of order is a bug that debug builds look for")]
        pub fn take(rank: Rank) -> Self {
            RANKS.with(|ranks| {
                if ranks.get() >> rank as u8 != 0 {
                    panic!("a lock of rank {rank:?} is taken while those of {:#b} are held", ranks.get());
                }
                ranks.set(ranks.get() | 1 << rank as u8);
            });
            Self(rank)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            RANKS.with(|ranks| ranks.set(ranks.get() & !(1 << self.0 as u8)));
        }
    }
}

#[cfg(not(all(debug_assertions, any(test, feature = "testkit"))))]
mod held {
    pub struct Held;

    impl Held {
        #[inline(always)]
        pub const fn take(_rank: super::Rank) -> Self {
            Self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_taken_by_rising_rank() {
        let (line, leaf) = (Lock::new(Rank::Line, 1), Lock::new(Rank::Leaf, 2));
        let (a, b) = (line.lock(), leaf.lock());
        assert_eq!(*a + *b, 3);
        drop((a, b));
        assert_eq!(*line.lock(), 1, "a lock that was let go may be taken again");
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a lock of rank Line is taken")]
    fn a_lock_out_of_order_is_found() {
        let (line, leaf) = (Lock::new(Rank::Line, ()), Lock::new(Rank::Leaf, ()));
        let _leaf = leaf.lock();
        let _line = line.lock();
    }
}
