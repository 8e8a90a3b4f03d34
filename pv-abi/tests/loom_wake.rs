//! A vCPU that stops polling beside two senders: see `protocol::wake`.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a poisoned lock or a lost thread fails the test")]

use pv_abi::demand::State;
use pv_abi::model::{Barrier, Shared, explore};
use pv_abi::protocol::wake::{Kick, send, start_polling, stop_polling, take};
use pv_abi::protocol::word::Word;

/// What the parties leave out.
#[derive(Clone, Copy)]
struct Parties {
    sender: Barrier,
    target: Barrier,
    second_look: bool,
}

const HONEST: Parties = Parties { sender: Barrier::Full, target: Barrier::Full, second_look: true };

fn two_senders_beside_a_target_that_stops_polling(parties: Parties) {
    explore(move || {
        let (pending, state, seq) = (Shared::new(0), Shared::new(0), Shared::new(1));
        start_polling(&state);
        let senders = [1, 2].map(|event| {
            let (pending, state, seq) = (pending.with(parties.sender), state.clone(), seq.clone());
            loom::thread::spawn(move || (event, send(&pending, &state, &seq, event)))
        });
        let (pending, state) = (pending.with(parties.target), state.with(parties.target));
        let mut seen = take(&pending, 0);
        if parties.second_look {
            seen |= stop_polling(&state, &pending, 0);
        } else {
            state.fetch_and(!State::POLLING_BIT);
        }
        for sender in senders {
            let (event, kick) = sender.join().unwrap();
            assert!(seen & event != 0 || kick == Kick::Needed, "event {event} is never noticed");
            assert_eq!((seen | pending.load()) & event, event, "event {event} is lost");
        }
    });
}

#[test]
fn every_event_is_polled_or_kicked_for() {
    two_senders_beside_a_target_that_stops_polling(HONEST);
}

#[test]
#[should_panic(expected = "is never noticed")]
fn without_the_senders_barrier_an_event_is_never_noticed() {
    two_senders_beside_a_target_that_stops_polling(Parties { sender: Barrier::Missing, ..HONEST });
}

#[test]
#[should_panic(expected = "is never noticed")]
fn without_the_targets_barrier_an_event_is_never_noticed() {
    two_senders_beside_a_target_that_stops_polling(Parties { target: Barrier::Missing, ..HONEST });
}

#[test]
#[should_panic(expected = "is never noticed")]
fn without_the_second_look_an_event_is_never_noticed() {
    two_senders_beside_a_target_that_stops_polling(Parties { second_look: false, ..HONEST });
}

#[test]
fn a_polling_target_on_cpu_is_not_kicked_and_one_off_cpu_is() {
    explore(|| {
        let (pending, state) = (Shared::new(0), Shared::new(0));
        start_polling(&state);
        assert_eq!(send(&pending, &state, &Shared::new(1), 1), Kick::NotNeeded);
        assert_eq!(send(&pending, &state, &Shared::new(2), 1), Kick::Needed);
        assert_eq!(take(&pending, 1), 0);
        assert_eq!(take(&pending, 0), 1);
        assert_eq!(pending.load(), 0);
    });
}
