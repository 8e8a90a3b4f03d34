//! The index protocol under every interleaving: records arrive whole, once, in order, and no slot is written while it is
//! read. Producer and consumer are the product's code on loom's atomics; a mutation takes one ordering away and must fail.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a refusal fails the test")]

mod common;

use common::{ModelMemory, Mutation, explore};
use ring_buffers::{RingError, bytes, records, words_for_bytes, words_for_records};

const RECORDS: u64 = 3;

/// Three records through two slots, so that the last needs the first one's room back.
fn three_records_through_two_slots(sender: Mutation, receiver: Mutation) {
    explore(move || {
        let memory = ModelMemory::new(words_for_records(2, 2), Mutation::None);
        let mut producer = records::Producer::<_, 2>::create(memory.with(sender)).unwrap();
        let mut consumer = records::Consumer::<_, 2>::attach(memory.with(receiver)).unwrap();
        let sending = loom::thread::spawn(move || {
            for number in 1..=RECORDS {
                while let Err(refusal) = producer.stage(&[number, !number]) {
                    assert_eq!(refusal, RingError::Full);
                    loom::thread::yield_now();
                }
                producer.commit_quietly();
            }
        });
        let mut expected = 1;
        while expected <= RECORDS {
            match consumer.take() {
                Ok(record) => {
                    assert_eq!(record, [expected, !expected]);
                    expected += 1;
                    consumer.release_quietly();
                }
                Err(refusal) => {
                    assert_eq!(refusal, RingError::Empty);
                    loom::thread::yield_now();
                }
            }
        }
        sending.join().unwrap();
        assert_eq!(consumer.take(), Err(RingError::Empty));
    });
}

#[test]
fn records_arrive_whole_once_and_in_order() {
    three_records_through_two_slots(Mutation::None, Mutation::None);
}

#[test]
#[should_panic(expected = "left == right")]
fn without_release_a_record_is_seen_before_its_words() {
    three_records_through_two_slots(Mutation::NoRelease, Mutation::None);
}

#[test]
#[should_panic(expected = "left == right")]
fn without_acquire_a_record_is_seen_before_its_words() {
    three_records_through_two_slots(Mutation::None, Mutation::NoAcquire);
}

/// Six bytes of a first push, then six of a second that share a word with it and wrap.
fn bytes_that_share_a_word(sender: Mutation) {
    explore(move || {
        let memory = ModelMemory::new(words_for_bytes(8), Mutation::None);
        let mut producer = bytes::Producer::create(memory.with(sender)).unwrap();
        let mut consumer = bytes::Consumer::attach(memory.clone()).unwrap();
        let sending = loom::thread::spawn(move || {
            let mut left = &b"abcdefghijkl"[..];
            while !left.is_empty() {
                match producer.stage(&left[..left.len().min(6)]) {
                    Ok(count) => left = &left[count..],
                    Err(refusal) => {
                        assert_eq!(refusal, RingError::Full);
                        loom::thread::yield_now();
                    }
                }
                producer.commit_quietly();
            }
        });
        let mut got = Vec::<u8>::new();
        while got.len() < 12 {
            let mut piece = [0; 8];
            match consumer.take(&mut piece) {
                Ok(count) => got.extend_from_slice(&piece[..count]),
                Err(_) => loom::thread::yield_now(),
            }
            consumer.release_quietly();
        }
        sending.join().unwrap();
        assert_eq!(got, b"abcdefghijkl");
    });
}

#[test]
fn bytes_of_two_pushes_in_one_word_arrive_in_order() {
    bytes_that_share_a_word(Mutation::None);
}

#[test]
#[should_panic(expected = "left == right")]
fn without_release_bytes_are_seen_before_they_are_written() {
    bytes_that_share_a_word(Mutation::NoRelease);
}
