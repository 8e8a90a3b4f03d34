//! Two threads, many messages: all arrive, once, in order, and nobody sleeps for ever.
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "a poisoned lock fails the test")]

use ring_buffers::{RingError, Wait, bytes, records, words_for_bytes, words_for_records};
use std::sync::atomic::AtomicU64;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

const MESSAGES: u64 = 200_000;
const LOST_WAKE: Duration = Duration::from_secs(20);

/// A sticky event, as the hypervisor's are: a kick before the wait is not lost.
#[derive(Default)]
struct Event {
    pending: Mutex<bool>,
    changed: Condvar,
}

impl Event {
    fn kick(&self) {
        *self.pending.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn wait(&self) {
        let pending = self.pending.lock().unwrap();
        let (mut pending, late) = self.changed.wait_timeout_while(pending, LOST_WAKE, |set| !*set).unwrap();
        assert!(!late.timed_out(), "a wake was lost");
        *pending = false;
    }
}

fn zeroed(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

#[test]
fn records_arrive_once_and_in_order_when_both_sides_sleep() {
    let words = zeroed(words_for_records(8, 2));
    let mut producer = records::Producer::<_, 2>::create(&words[..]).unwrap();
    let mut consumer = records::Consumer::<_, 2>::attach(&words[..]).unwrap();
    let (data, room) = (Event::default(), Event::default());
    let mut slept = 0;
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for number in 0..MESSAGES {
                let pushed = loop {
                    match producer.push(&[number, !number]) {
                        Ok(pushed) => break pushed,
                        Err(RingError::Full) => {
                            if producer.prepare_to_wait(1 + usize::from(number % 3 == 0)).unwrap()
                                == Wait::Sleep
                            {
                                room.wait();
                            }
                        }
                        Err(refusal) => panic!("{refusal}"),
                    }
                };
                if pushed.kick {
                    data.kick();
                }
            }
        });
        let mut expected = 0;
        let mut to = [[0; 2]; 5];
        while expected < MESSAGES {
            match consumer.pop_many(&mut to) {
                Ok(popped) => {
                    for record in &to[..popped.value] {
                        assert_eq!(*record, [expected, !expected]);
                        expected += 1;
                    }
                    if popped.kick {
                        room.kick();
                    }
                }
                Err(RingError::Empty) => {
                    if consumer.prepare_to_wait(1).unwrap() == Wait::Sleep {
                        slept += 1;
                        data.wait();
                    }
                }
                Err(refusal) => panic!("{refusal}"),
            }
        }
        assert_eq!(consumer.pop(), Err(RingError::Empty));
    });
    assert!(slept > 0, "the consumer never slept: the test tests nothing");
}

#[test]
fn bytes_arrive_once_and_in_order_in_pieces_of_any_length() {
    let words = zeroed(words_for_bytes(64));
    let mut producer = bytes::Producer::create(&words[..]).unwrap();
    let mut consumer = bytes::Consumer::attach(&words[..]).unwrap();
    let total = usize::try_from(MESSAGES).unwrap();
    let byte = |at: usize| u8::try_from(at * 7 % 251).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut sent = 0;
            while sent < total {
                let piece: Vec<u8> = (sent..total.min(sent + 1 + sent % 23)).map(byte).collect();
                match producer.push(&piece) {
                    Ok(pushed) => sent += pushed.count,
                    Err(RingError::Full) => std::thread::yield_now(),
                    Err(refusal) => panic!("{refusal}"),
                }
            }
        });
        let mut got = 0;
        let mut to = [0; 17];
        while got < total {
            match consumer.pop(&mut to[..1 + got % 17]) {
                Ok(popped) => {
                    for found in &to[..popped.value] {
                        assert_eq!(*found, byte(got), "byte {got}");
                        got += 1;
                    }
                }
                Err(RingError::Empty) => std::thread::yield_now(),
                Err(refusal) => panic!("{refusal}"),
            }
        }
    });
}
