//! A waiter that donates its time beside the pCPU that runs the holder: see `protocol::lock_wait`.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a poisoned lock or a lost thread fails the test")]

use loom::sync::{Arc, Mutex};
use pv_abi::model::{Shared, explore};
use pv_abi::protocol::dispatch::{switch_in, switch_out};
use pv_abi::protocol::lock_wait::{Wait, is_current, look};
use pv_abi::protocol::word::Word;

/// The queue that the holder is in, and on how many pCPUs it runs.
struct Queue {
    holder_queued: bool,
    running: usize,
}

/// Where the hypervisor compares what the waiter saw.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    UnderTheLock,
    BeforeTheLock,
    Never,
}

/// The holder is off CPU and queued. Its pCPU dispatches it and switches it out again, while the waiter looks and donates.
fn a_donation_beside_a_dispatch(compare: Compare) {
    explore(move || {
        let seq = Shared::new(0);
        let queue = Arc::new(Mutex::new(Queue { holder_queued: true, running: 0 }));
        let owner = {
            let (seq, queue) = (seq.clone(), queue.clone());
            loom::thread::spawn(move || {
                {
                    let mut queue = queue.lock().unwrap();
                    if !queue.holder_queued {
                        return;
                    }
                    queue.holder_queued = false;
                    queue.running += 1;
                    switch_in(&seq);
                }
                let mut queue = queue.lock().unwrap();
                switch_out(&seq);
                queue.running -= 1;
                queue.holder_queued = true;
            })
        };
        if let Wait::YieldTo(seen) = look(&seq) {
            let early = is_current(&seq, seen);
            let mut queue = queue.lock().unwrap();
            let agreed = match compare {
                Compare::UnderTheLock => is_current(&seq, seen),
                Compare::BeforeTheLock => early,
                Compare::Never => true,
            };
            if agreed && queue.holder_queued {
                assert_eq!(seq.load(), seen, "a stale donation");
                queue.holder_queued = false;
                queue.running += 1;
                assert_eq!(queue.running, 1, "on two pCPUs");
                switch_in(&seq);
            }
        }
        owner.join().unwrap();
    });
}

#[test]
fn a_donation_takes_the_holder_where_the_waiter_saw_it_or_not_at_all() {
    a_donation_beside_a_dispatch(Compare::UnderTheLock);
}

#[test]
#[should_panic(expected = "a stale donation")]
fn compared_before_the_lock_a_donation_is_stale() {
    a_donation_beside_a_dispatch(Compare::BeforeTheLock);
}

#[test]
#[should_panic(expected = "a stale donation")]
fn without_comparison_a_donation_is_stale() {
    a_donation_beside_a_dispatch(Compare::Never);
}
