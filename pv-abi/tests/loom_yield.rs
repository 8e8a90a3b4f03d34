//! A runner that enters beside two remote enqueuers: see `protocol::yield_wanted`.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a poisoned lock or a lost thread fails the test")]

use pv_abi::model::{Barrier, Shared, explore};
use pv_abi::protocol::word::Word;
use pv_abi::protocol::yield_wanted::{Enter, Interrupt, ask, enqueue, enter, is_wanted, withdraw};

fn a_runner_beside_two_enqueuers(runner: Barrier, enqueuer: Barrier) {
    explore(move || {
        let (in_guest, queued) = (Shared::new(0), Shared::new(0));
        let enqueuers = [1, 2].map(|bit| {
            let (queued, in_guest) = (queued.with(enqueuer), in_guest.clone());
            loom::thread::spawn(move || enqueue(&queued, &in_guest, bit))
        });
        let entered = enter(&in_guest.with(runner), &queued);
        for enqueuer in enqueuers {
            let interrupt = enqueuer.join().unwrap();
            assert!(
                entered == Enter::Reschedule || interrupt == Interrupt::Needed,
                "runs on alone while another waits"
            );
        }
        assert_eq!(queued.load(), 3);
        assert_eq!(in_guest.load(), u64::from(entered == Enter::Alone));
    });
}

#[test]
fn a_runner_finds_the_queue_filled_or_is_interrupted() {
    a_runner_beside_two_enqueuers(Barrier::Full, Barrier::Full);
}

#[test]
#[should_panic(expected = "runs on alone")]
fn without_the_runners_barrier_it_runs_on_alone() {
    a_runner_beside_two_enqueuers(Barrier::Missing, Barrier::Full);
}

#[test]
#[should_panic(expected = "runs on alone")]
fn without_the_enqueuers_barrier_the_runner_runs_on_alone() {
    a_runner_beside_two_enqueuers(Barrier::Full, Barrier::Missing);
}

#[test]
fn the_flag_is_set_and_cleared_beside_other_writers() {
    explore(|| {
        let flags = Shared::new(0);
        let others = flags.clone();
        let other = loom::thread::spawn(move || others.fetch_or(1 << 2));
        ask(&flags);
        assert!(is_wanted(&flags));
        other.join().unwrap();
        withdraw(&flags);
        assert!(!is_wanted(&flags));
        assert_eq!(flags.load(), 1 << 2);
    });
}
