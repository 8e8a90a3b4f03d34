//! Mailboxes for notifications between processors: a notification names a vCPU to look at, or asks the receiver to look around. No
//! operation here waits or locks.
//!
//! A sender sets a vCPU's bit and then a bit of `queued`; the receiver looks at `queued` between XCHG `away` = 1 and the entry
//! into guest mode, or the halt. The ordering is `pv_abi::protocol::yield_wanted`'s: either the receiver finds the notification and
//! stays, or the sender finds the receiver away and interrupts it.

use crate::base::id::MAX_VCPUS;
use crate::policy::sched::Slot;
use core::array;
use core::sync::atomic::AtomicU64;
use pv_abi::protocol::word::Word;
use pv_abi::protocol::yield_wanted::{self, Enter, Interrupt};

/// Words that hold a bit for each vCPU.
const WORDS: usize = MAX_VCPUS / 64;
/// In `queued`: the receiver must look around: it may take a waiting vCPU if it idles, or all guests have ended.
const LOOK: u64 = 1 << 32;
const _: () = assert!(WORDS <= 32);

/// The mailbox of one processor.
#[derive(Debug)]
#[repr(align(64))]
pub struct Mailbox<W = AtomicU64> {
    /// Bit n: word n of `slots` holds something. Besides them: [`LOOK`].
    queued: W,
    /// Not zero while the processor is in guest mode or halted, where only an interrupt reaches it.
    away: W,
    /// One bit per vCPU, by slot.
    slots: [W; WORDS],
}

/// Notifications taken out of a mailbox.
#[derive(Debug)]
pub struct Notifications<'a, W> {
    mailbox: &'a Mailbox<W>,
    words: u64,
    base: u16,
    bits: u64,
}

impl<W: Word> Mailbox<W> {
    /// An empty mailbox; `zero` makes a word that is zero.
    pub fn new(zero: impl Fn() -> W) -> Self {
        Self { queued: zero(), away: zero(), slots: array::from_fn(|_| zero()) }
    }

    /// Sender: asks the receiver to look at this vCPU.
    pub fn post(&self, slot: Slot) -> Interrupt {
        self.leave(slot);
        yield_wanted::enqueue(&self.queued, &self.away, 1 << (usize::from(slot.0 >> 6) % WORDS))
    }

    /// Sender: asks the receiver to look around.
    pub fn ask(&self) -> Interrupt {
        yield_wanted::enqueue(&self.queued, &self.away, LOOK)
    }

    /// Receiver, before it enters guest mode or halts: marks itself away, and returns whether it may go.
    #[inline(always)]
    pub fn go_away(&self) -> Enter {
        yield_wanted::enter(&self.away, &self.queued)
    }

    /// Receiver, after guest mode or the halt: marks itself present.
    #[inline(always)]
    pub fn come_back(&self) {
        yield_wanted::leave(&self.away);
    }

    /// Whether the processor is in guest mode, or halted.
    pub fn is_away(&self) -> bool {
        self.away.load() != 0
    }

    /// Receiver: whether the mailbox has no notification.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.queued.load_relaxed() == 0
    }

    /// Receiver: puts a notification back; the receiver finds it again after [`Self::recall`].
    pub fn leave(&self, slot: Slot) {
        self.slots[usize::from(slot.0 >> 6) % WORDS].fetch_or(1 << (slot.0 & 63));
    }

    /// Receiver: makes the next [`Self::take`] find the notifications that were put back by [`Self::leave`].
    pub fn recall(&self) {
        self.queued.fetch_or((1 << WORDS) - 1);
    }

    /// Receiver: takes all notifications out, and returns the vCPUs that they name.
    pub fn take(&self) -> Notifications<'_, W> {
        Notifications { mailbox: self, words: self.queued.swap(0) & !LOOK, base: 0, bits: 0 }
    }
}

impl<W: Word> Iterator for Notifications<'_, W> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        while self.bits == 0 {
            let word = usize::try_from(self.words.trailing_zeros()).ok().filter(|_| self.words != 0)?;
            self.words &= self.words - 1;
            self.base = u16::try_from(word * 64).unwrap_or(0);
            self.bits = self.mailbox.slots.get(word)?.swap(0);
        }
        let bit = u16::try_from(self.bits.trailing_zeros()).unwrap_or(0);
        self.bits &= self.bits - 1;
        Some(Slot(self.base | bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_receiver_that_finds_something_stays() {
        let mailbox = Mailbox::new(|| AtomicU64::new(0));
        assert_eq!(mailbox.go_away(), Enter::Alone);
        assert_eq!(mailbox.post(Slot(3)), Interrupt::Needed);
        mailbox.come_back();
        assert_eq!(mailbox.ask(), Interrupt::NotNeeded);
        assert_eq!(mailbox.go_away(), Enter::Reschedule);
        assert_eq!(mailbox.take().collect::<std::vec::Vec<_>>(), std::vec![Slot(3)]);
        assert!(mailbox.is_empty());
    }

    proptest! {
        #[test]
        fn each_vcpu_that_was_posted_is_taken_once(slots in proptest::collection::vec(0u16..1024, 0..100)) {
            let mailbox = Mailbox::new(|| AtomicU64::new(0));
            for slot in &slots {
                let _ = mailbox.post(Slot(*slot));
            }
            let taken: std::vec::Vec<_> = mailbox.take().map(|slot| slot.0).collect();
            let posted: BTreeSet<_> = slots.into_iter().collect();
            prop_assert_eq!(taken, posted.into_iter().collect::<std::vec::Vec<_>>());
            prop_assert_eq!(mailbox.take().count(), 0);
        }
    }
}
