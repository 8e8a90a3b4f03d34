//! Whatever is done in whatever order, a ring behaves as a bounded queue.
#![cfg(not(loom))]

use proptest::prelude::*;
use ring_buffers::{RingError, Wait, bytes, records, words_for_bytes, words_for_records};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const CAPACITY: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Step {
    Stage(usize),
    Commit,
    CommitQuietly,
    Take(usize),
    Release,
    ReleaseQuietly,
    WaitForData(usize),
    WaitForRoom(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..12usize).prop_map(Step::Stage),
        3 => Just(Step::Commit),
        1 => Just(Step::CommitQuietly),
        4 => (0..12usize).prop_map(Step::Take),
        3 => Just(Step::Release),
        1 => Just(Step::ReleaseQuietly),
        1 => (0..12usize).prop_map(Step::WaitForData),
        1 => (0..12usize).prop_map(Step::WaitForRoom),
    ];
    prop::collection::vec(step, 0..200)
}

fn zeroed(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

/// Moves both indices of a fresh ring to `start`, as if it had been in use.
fn age(words: &[AtomicU64], start: u64) {
    words[8].store(start, Relaxed);
    words[16].store(start, Relaxed);
}

/// The queue a ring is compared with, and who waits for what in it.
#[derive(Default)]
struct Model {
    staged: VecDeque<u8>,
    visible: VecDeque<u8>,
    taken: usize,
    /// Visible units that the consumer wants before it goes on.
    consumer_waits: Option<usize>,
    /// Free units that the producer wants before it goes on.
    producer_waits: Option<usize>,
}

impl Model {
    fn room(&self) -> usize {
        CAPACITY - self.staged.len() - self.visible.len() - self.taken
    }

    fn commit(&mut self) {
        self.visible.append(&mut self.staged);
    }

    /// Says whether the consumer's wait is over, and ends it.
    fn consumer_due(&mut self) -> bool {
        self.consumer_waits.take_if(|wanted| self.visible.len() >= *wanted).is_some()
    }

    fn producer_due(&mut self) -> bool {
        let room = self.room();
        self.producer_waits.take_if(|wanted| room >= *wanted).is_some()
    }
}

proptest! {
    #[test]
    fn a_record_ring_is_a_bounded_queue(start: u64, steps in steps()) {
        let words = zeroed(words_for_records(CAPACITY, 3));
        records::Producer::<_, 3>::create(&words[..]).unwrap();
        age(&words, start);
        let mut producer = records::Producer::<_, 3>::attach(&words[..]).unwrap();
        let mut consumer = records::Consumer::<_, 3>::attach(&words[..]).unwrap();
        let mut model = Model::default();
        let mut next = 0u8;
        // One kick may be due to the zero that need_kick starts with.
        let (mut data_kicks, mut data_waits, mut room_kicks, mut room_waits) = (0, 1, 0, 1);
        for step in steps {
            match step {
                Step::Stage(count) => for _ in 0..count {
                    model.producer_waits = None; // who goes on does not wait
                    let record = [u64::from(next), !u64::from(next), 7];
                    let expected = if model.room() > 0 { Ok(()) } else { Err(RingError::Full) };
                    prop_assert_eq!(producer.stage(&record), expected);
                    if expected.is_ok() {
                        model.staged.push_back(next);
                        next = next.wrapping_add(1);
                    }
                },
                Step::Commit => {
                    model.commit();
                    let due = model.consumer_due();
                    let kick = producer.commit();
                    data_kicks += usize::from(kick);
                    prop_assert!(kick || !due, "a waiter was left asleep");
                }
                Step::CommitQuietly => { model.commit(); producer.commit_quietly(); }
                Step::Take(count) => for _ in 0..count {
                    model.consumer_waits = None;
                    match model.visible.pop_front() {
                        Some(value) => {
                            let value = u64::from(value);
                            prop_assert_eq!(consumer.take(), Ok([value, !value, 7]));
                            model.taken += 1;
                        }
                        None => prop_assert_eq!(consumer.take(), Err(RingError::Empty)),
                    }
                },
                Step::Release => {
                    model.taken = 0;
                    let due = model.producer_due();
                    let kick = consumer.release();
                    room_kicks += usize::from(kick);
                    prop_assert!(kick || !due, "a waiter was left asleep");
                }
                Step::ReleaseQuietly => { model.taken = 0; consumer.release_quietly(); }
                Step::WaitForData(wanted) => {
                    let wanted = wanted.min(CAPACITY - model.taken);
                    let expected = if model.visible.len() >= wanted { Wait::Proceed } else { Wait::Sleep };
                    prop_assert_eq!(consumer.prepare_to_wait(wanted), Ok(expected));
                    model.consumer_waits = (expected == Wait::Sleep).then_some(wanted);
                    data_waits += usize::from(expected == Wait::Sleep);
                }
                Step::WaitForRoom(wanted) => {
                    let wanted = wanted.min(CAPACITY - model.staged.len());
                    let expected = if model.room() >= wanted { Wait::Proceed } else { Wait::Sleep };
                    prop_assert_eq!(producer.prepare_to_wait(wanted), Ok(expected));
                    model.producer_waits = (expected == Wait::Sleep).then_some(wanted);
                    room_waits += usize::from(expected == Wait::Sleep);
                }
            }
            prop_assert!(data_kicks <= data_waits && room_kicks <= room_waits, "more kicks than waits");
            prop_assert_eq!(producer.room(), Ok(model.room()));
            prop_assert_eq!(consumer.available(), Ok(model.visible.len()));
        }
    }

    #[test]
    fn a_byte_ring_is_a_bounded_stream(start: u64, steps in steps()) {
        let words = zeroed(words_for_bytes(CAPACITY));
        bytes::Producer::create(&words[..]).unwrap();
        age(&words, start);
        let mut producer = bytes::Producer::attach(&words[..]).unwrap();
        let mut consumer = bytes::Consumer::attach(&words[..]).unwrap();
        prop_assert_eq!(producer.capacity(), CAPACITY);
        let mut model = Model::default();
        let mut next = 0u8;
        for step in steps {
            match step {
                Step::Stage(count) => {
                    let sent: Vec<u8> = (0..count).map(|_| { next = next.wrapping_add(1); next }).collect();
                    let fits = count.min(model.room());
                    let expected = if fits == 0 && count > 0 { Err(RingError::Full) } else { Ok(fits) };
                    prop_assert_eq!(producer.stage(&sent), expected);
                    model.staged.extend(&sent[..fits]);
                }
                Step::Commit => { model.commit(); let _ = producer.commit(); }
                Step::CommitQuietly => { model.commit(); producer.commit_quietly(); }
                Step::Take(count) => {
                    let mut got = vec![0xEE; count];
                    let there = count.min(model.visible.len());
                    let expected = if there == 0 && count > 0 { Err(RingError::Empty) } else { Ok(there) };
                    prop_assert_eq!(consumer.take(&mut got), expected);
                    prop_assert_eq!(&got[..there], model.visible.drain(..there).collect::<Vec<_>>());
                    prop_assert!(got[there..].iter().all(|byte| *byte == 0xEE));
                    model.taken += there;
                }
                Step::Release => { model.taken = 0; let _ = consumer.release(); }
                Step::ReleaseQuietly => { model.taken = 0; consumer.release_quietly(); }
                Step::WaitForData(wanted) => {
                    let wanted = wanted.min(CAPACITY - model.taken);
                    let expected = if model.visible.len() >= wanted { Wait::Proceed } else { Wait::Sleep };
                    prop_assert_eq!(consumer.prepare_to_wait(wanted), Ok(expected));
                }
                Step::WaitForRoom(wanted) => {
                    let wanted = wanted.min(CAPACITY - model.staged.len());
                    let expected = if model.room() >= wanted { Wait::Proceed } else { Wait::Sleep };
                    prop_assert_eq!(producer.prepare_to_wait(wanted), Ok(expected));
                }
            }
            prop_assert_eq!(producer.room(), Ok(model.room()));
            prop_assert_eq!(consumer.available(), Ok(model.visible.len()));
        }
    }
}
