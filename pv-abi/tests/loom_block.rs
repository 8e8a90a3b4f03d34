//! A vCPU that blocks beside a sender: see `protocol::block`.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a poisoned lock or a lost thread fails the test")]

use loom::sync::{Arc, Mutex};
use pv_abi::demand::State;
use pv_abi::model::{Barrier, Shared, explore};
use pv_abi::protocol::block::{Block, block};
use pv_abi::protocol::dispatch::switch_out;
use pv_abi::protocol::wake::{Kick, send};
use pv_abi::protocol::word::Word;

/// The target blocks with POLLING still set, so that dispatch_seq alone tells the sender.
fn a_sender_beside_a_target_that_blocks(hypervisor: Barrier, second_look: bool) {
    explore(move || {
        let (pending, state, seq) = (Shared::new(0), Shared::new(State::POLLING_BIT), Shared::new(1));
        // The target's state, under the lock of its queue.
        let blocked = Arc::new(Mutex::new(false));
        let sender = {
            let (pending, state, seq, blocked) = (pending.clone(), state, seq.clone(), blocked.clone());
            loom::thread::spawn(move || {
                if send(&pending, &state, &seq, 1) == Kick::Needed {
                    *blocked.lock().unwrap() = false;
                }
            })
        };
        {
            let mut blocked = blocked.lock().unwrap();
            let seq = seq.with(hypervisor);
            *blocked = if second_look {
                block(&seq, &pending, u64::MAX) == Block::Sleep
            } else {
                switch_out(&seq);
                true
            };
        }
        sender.join().unwrap();
        assert!(!*blocked.lock().unwrap() || pending.load() == 0, "asleep for ever");
    });
}

#[test]
fn nobody_sleeps_through_an_event() {
    a_sender_beside_a_target_that_blocks(Barrier::Full, true);
}

#[test]
#[should_panic(expected = "asleep for ever")]
fn without_the_fence_an_event_is_slept_through() {
    a_sender_beside_a_target_that_blocks(Barrier::Missing, true);
}

#[test]
#[should_panic(expected = "asleep for ever")]
fn without_the_second_look_an_event_is_slept_through() {
    a_sender_beside_a_target_that_blocks(Barrier::Full, false);
}
