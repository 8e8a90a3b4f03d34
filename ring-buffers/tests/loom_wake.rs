//! need_kick under every interleaving: whoever went to sleep is kicked by the peer that made his wish true. The two fences
//! and the second look are each taken away once, and each time somebody sleeps for ever.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a refusal fails the test")]

mod common;

use common::{ModelMemory, Mutation, explore};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use ring_buffers::{RingError, Wait, records, words_for_records};

/// A party that leaves out its fence, or sleeps without a second look, beside one that does not.
#[derive(Clone, Copy)]
struct Parties {
    producer: Mutation,
    consumer: Mutation,
    second_look: bool,
}

const HONEST: Parties = Parties { producer: Mutation::None, consumer: Mutation::None, second_look: true };

/// The consumer wants `wanted` records of the two that are sent one by one; it either finds them or is kicked.
fn consumer_waits(parties: Parties, wanted: usize) {
    explore(move || {
        let memory = ModelMemory::new(words_for_records(2, 1), Mutation::None);
        let mut producer = records::Producer::<_, 1>::create(memory.with(parties.producer)).unwrap();
        let mut consumer = records::Consumer::<_, 1>::attach(memory.with(parties.consumer)).unwrap();
        // The zero that need_kick starts with would kick for the first record whatever the consumer does.
        let kicked = Arc::new(AtomicBool::new(false));
        let kicks = kicked.clone();
        let _ = producer.push(&[0]).unwrap();
        let _ = consumer.pop().unwrap();
        let sending = loom::thread::spawn(move || {
            for number in 1..=2 {
                if producer.push(&[number]).unwrap().kick {
                    kicks.store(true, Ordering::Relaxed);
                }
            }
        });
        let before = consumer.available().unwrap() >= wanted;
        let wait = consumer.prepare_to_wait(wanted).unwrap();
        let sleeps = if parties.second_look { wait == Wait::Sleep } else { !before };
        sending.join().unwrap();
        assert!(!sleeps || kicked.load(Ordering::Relaxed), "asleep for ever");
        assert_eq!(consumer.available(), Ok(2));
    });
}

/// The producer of a full ring wants room; the consumer takes both records.
fn producer_waits(parties: Parties, wanted: usize) {
    explore(move || {
        let memory = ModelMemory::new(words_for_records(2, 1), Mutation::None);
        let mut producer = records::Producer::<_, 1>::create(memory.with(parties.producer)).unwrap();
        let mut consumer = records::Consumer::<_, 1>::attach(memory.with(parties.consumer)).unwrap();
        for number in 0..4 {
            let _ = producer.push(&[number]).unwrap();
            if number < 2 {
                let _ = consumer.pop().unwrap();
            }
        }
        let kicked = Arc::new(AtomicBool::new(false));
        let kicks = kicked.clone();
        let taking = loom::thread::spawn(move || {
            for _ in 0..2 {
                if consumer.pop().unwrap().kick {
                    kicks.store(true, Ordering::Relaxed);
                }
            }
        });
        let before = producer.room().unwrap() >= wanted;
        let wait = producer.prepare_to_wait(wanted).unwrap();
        let sleeps = if parties.second_look { wait == Wait::Sleep } else { !before };
        taking.join().unwrap();
        assert!(!sleeps || kicked.load(Ordering::Relaxed), "asleep for ever");
        assert_eq!(producer.room(), Ok(2));
    });
}

#[test]
fn a_waiting_consumer_is_kicked_or_does_not_sleep() {
    consumer_waits(HONEST, 1);
    consumer_waits(HONEST, 2);
}

#[test]
fn a_waiting_producer_is_kicked_or_does_not_sleep() {
    producer_waits(HONEST, 1);
    producer_waits(HONEST, 2);
}

#[test]
#[should_panic(expected = "asleep for ever")]
fn without_the_producers_fence_a_consumer_sleeps_for_ever() {
    consumer_waits(Parties { producer: Mutation::NoFence, ..HONEST }, 1);
}

#[test]
#[should_panic(expected = "asleep for ever")]
fn without_the_consumers_fence_it_sleeps_for_ever() {
    consumer_waits(Parties { consumer: Mutation::NoFence, ..HONEST }, 1);
}

#[test]
#[should_panic(expected = "asleep for ever")]
fn without_a_second_look_a_consumer_sleeps_for_ever() {
    consumer_waits(Parties { second_look: false, ..HONEST }, 2);
}

#[test]
#[should_panic(expected = "asleep for ever")]
fn without_the_consumers_fence_a_producer_sleeps_for_ever() {
    producer_waits(Parties { consumer: Mutation::NoFence, ..HONEST }, 1);
}

#[test]
#[should_panic(expected = "asleep for ever")]
fn without_the_producers_fence_it_sleeps_for_ever() {
    producer_waits(Parties { producer: Mutation::NoFence, ..HONEST }, 1);
}

#[test]
fn a_polling_peer_is_never_kicked() {
    explore(|| {
        let memory = ModelMemory::new(words_for_records(2, 1), Mutation::None);
        let mut producer = records::Producer::<_, 1>::create(memory.clone()).unwrap();
        let mut consumer = records::Consumer::<_, 1>::attach(memory).unwrap();
        let _ = producer.push(&[0]).unwrap();
        let _ = consumer.pop().unwrap();
        let sending = loom::thread::spawn(move || {
            assert!(!producer.push(&[1]).unwrap().kick);
            producer
        });
        while consumer.take() == Err(RingError::Empty) {
            loom::thread::yield_now();
        }
        assert!(!consumer.release());
        assert_eq!(sending.join().unwrap().room(), Ok(2));
    });
}
