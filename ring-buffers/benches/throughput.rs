//! Messages a second through our record ring, beside `rtrb` and `crossbeam-channel`: 32-byte messages, 1,024 slots, one
//! thread (send one, receive one: the cost of the instructions) and two threads (the cost of sharing, both sides polling).
//!
//! `cargo bench -p ring-buffers`. Each figure is the best and the median of [`RUNS`] runs: on a machine that others use, the
//! best says what the code does, the distance of the median how far to believe it.

use ring_buffers::{records, words_for_records};
use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

const WORDS: usize = 4;
const SLOTS: usize = 1024;
const BATCH: usize = 32;
const RUNS: usize = 9;
const MESSAGES_ONE_THREAD: u64 = 2_000_000;
const MESSAGES_TWO_THREADS: u64 = 2_000_000;

type Message = [u64; WORDS];

/// The two ends of a queue under measurement. Messages carry their number.
trait Ends {
    /// Sends the messages from `next` on as far as there is room, at most `until`; returns the next one.
    fn send(sender: &mut Self::Sender, next: u64, until: u64) -> u64;
    /// Receives what is there, at most `limit`; adds up the numbers.
    fn receive(receiver: &mut Self::Receiver, limit: u64, sum: &mut u64) -> u64;
    /// Makes both ends.
    fn make() -> (Self::Sender, Self::Receiver);
    type Sender: Send;
    type Receiver: Send;
}

const fn message(number: u64) -> Message {
    [number, 1, 2, 3]
}

/// Words of one program, aligned to a line; the accesses are those of a `Region`.
type Words = &'static [AtomicU64];

/// Our ring, in memory that is never freed.
fn ours() -> (records::Producer<Words, WORDS>, records::Consumer<Words, WORDS>) {
    #[repr(align(64))]
    struct Lines([AtomicU64; words_for_records(SLOTS, WORDS)]);
    let lines: &'static Lines = Box::leak(Box::new(Lines([const { AtomicU64::new(0) }; _])));
    let words: Words = &lines.0;
    let (Ok(producer), Ok(consumer)) = (records::Producer::create(words), records::Consumer::attach(words))
    else {
        unreachable!("the memory holds a ring of this size");
    };
    assert_eq!(producer.capacity(), SLOTS);
    (producer, consumer)
}

/// `push` and `pop`: one message, one wake check on each side.
struct Ours;

impl Ends for Ours {
    type Sender = records::Producer<Words, WORDS>;
    type Receiver = records::Consumer<Words, WORDS>;

    fn make() -> (Self::Sender, Self::Receiver) {
        ours()
    }

    fn send(sender: &mut Self::Sender, next: u64, until: u64) -> u64 {
        if next == until {
            return next;
        }
        match sender.push(&message(next)) {
            Ok(pushed) => {
                black_box(pushed.kick);
                next + 1
            }
            Err(_) => next,
        }
    }

    fn receive(receiver: &mut Self::Receiver, _limit: u64, sum: &mut u64) -> u64 {
        match receiver.pop() {
            Ok(popped) => {
                black_box(popped.kick);
                *sum += popped.value[0];
                1
            }
            Err(_) => 0,
        }
    }
}

/// One message at a time without wake checks, as for a peer that is known to poll.
struct OursQuietly;

impl Ends for OursQuietly {
    type Sender = records::Producer<Words, WORDS>;
    type Receiver = records::Consumer<Words, WORDS>;

    fn make() -> (Self::Sender, Self::Receiver) {
        ours()
    }

    fn send(sender: &mut Self::Sender, next: u64, until: u64) -> u64 {
        if next == until || sender.stage(&message(next)).is_err() {
            return next;
        }
        sender.commit_quietly();
        next + 1
    }

    fn receive(receiver: &mut Self::Receiver, _limit: u64, sum: &mut u64) -> u64 {
        match receiver.take() {
            Ok(record) => {
                receiver.release_quietly();
                *sum += record[0];
                1
            }
            Err(_) => 0,
        }
    }
}

/// Up to [`BATCH`] messages a wake check.
struct OursBatched;

impl Ends for OursBatched {
    type Sender = records::Producer<Words, WORDS>;
    type Receiver = records::Consumer<Words, WORDS>;

    fn make() -> (Self::Sender, Self::Receiver) {
        ours()
    }

    fn send(sender: &mut Self::Sender, mut next: u64, until: u64) -> u64 {
        let until = until.min(next + BATCH as u64);
        let before = next;
        while next < until && sender.stage(&message(next)).is_ok() {
            next += 1;
        }
        if next > before {
            black_box(sender.commit());
        }
        next
    }

    fn receive(receiver: &mut Self::Receiver, limit: u64, sum: &mut u64) -> u64 {
        let mut count = 0;
        while count < limit.min(BATCH as u64) {
            let Ok(record) = receiver.take() else { break };
            *sum += record[0];
            count += 1;
        }
        if count > 0 {
            black_box(receiver.release());
        }
        count
    }
}

/// `rtrb`, one message at a time. It wakes nobody.
struct Rtrb;

impl Ends for Rtrb {
    type Sender = rtrb::Producer<Message>;
    type Receiver = rtrb::Consumer<Message>;

    fn make() -> (Self::Sender, Self::Receiver) {
        rtrb::RingBuffer::new(SLOTS)
    }

    fn send(sender: &mut Self::Sender, next: u64, until: u64) -> u64 {
        if next == until || sender.push(message(next)).is_err() { next } else { next + 1 }
    }

    fn receive(receiver: &mut Self::Receiver, _limit: u64, sum: &mut u64) -> u64 {
        match receiver.pop() {
            Ok(record) => {
                *sum += record[0];
                1
            }
            Err(_) => 0,
        }
    }
}

/// `crossbeam-channel`, bounded. Many senders and receivers, and it wakes sleepers.
struct Crossbeam;

impl Ends for Crossbeam {
    type Sender = crossbeam_channel::Sender<Message>;
    type Receiver = crossbeam_channel::Receiver<Message>;

    fn make() -> (Self::Sender, Self::Receiver) {
        crossbeam_channel::bounded(SLOTS)
    }

    fn send(sender: &mut Self::Sender, next: u64, until: u64) -> u64 {
        if next == until || sender.try_send(message(next)).is_err() { next } else { next + 1 }
    }

    fn receive(receiver: &mut Self::Receiver, _limit: u64, sum: &mut u64) -> u64 {
        match receiver.try_recv() {
            Ok(record) => {
                *sum += record[0];
                1
            }
            Err(_) => 0,
        }
    }
}

/// Sends and receives in turn. Returns seconds.
fn one_thread<E: Ends>() -> f64 {
    let (mut sender, mut receiver) = E::make();
    let (mut sent, mut received, mut sum) = (0, 0, 0);
    let start = Instant::now();
    while received < MESSAGES_ONE_THREAD {
        sent = E::send(&mut sender, sent, MESSAGES_ONE_THREAD);
        received += E::receive(&mut receiver, sent - received, &mut sum);
    }
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(sum, MESSAGES_ONE_THREAD * (MESSAGES_ONE_THREAD - 1) / 2);
    seconds
}

/// Spins a while for the peer, then lets another thread run: the two may share one CPU.
fn wait(turns: &mut u32) {
    *turns += 1;
    if *turns < 1000 {
        std::hint::spin_loop();
    } else {
        *turns = 0;
        std::thread::yield_now();
    }
}

/// One thread sends, one receives, both poll. Returns seconds.
fn two_threads<E: Ends>() -> f64 {
    let (mut sender, mut receiver) = E::make();
    let start = Instant::now();
    let mut sum = 0;
    std::thread::scope(|threads| {
        threads.spawn(move || {
            let (mut next, mut turns) = (0, 0);
            while next < MESSAGES_TWO_THREADS {
                let sent = E::send(&mut sender, next, MESSAGES_TWO_THREADS);
                if sent == next {
                    wait(&mut turns);
                }
                next = sent;
            }
        });
        let (mut received, mut turns) = (0, 0);
        while received < MESSAGES_TWO_THREADS {
            match E::receive(&mut receiver, MESSAGES_TWO_THREADS - received, &mut sum) {
                0 => wait(&mut turns),
                count => received += count,
            }
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(sum, MESSAGES_TWO_THREADS * (MESSAGES_TWO_THREADS - 1) / 2);
    seconds
}

/// Prints millions of messages a second, best and median.
fn report(name: &str, one: &mut [f64], two: &mut [f64]) {
    let rate = |messages: u64, seconds: &mut [f64]| {
        seconds.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss, reason = "a few million")]
        let millions = messages as f64 / 1e6;
        (millions / seconds[0], millions / seconds[seconds.len() / 2])
    };
    let (best_one, median_one) = rate(MESSAGES_ONE_THREAD, one);
    let (best_two, median_two) = rate(MESSAGES_TWO_THREADS, two);
    println!("| {name} | {best_one:.1} | {median_one:.1} | {best_two:.1} | {median_two:.1} |");
}

fn main() {
    type Run = fn() -> f64;
    let subjects: [(&str, Run, Run); 5] = [
        ("ours, push / pop", one_thread::<Ours>, two_threads::<Ours>),
        ("ours, no wake check", one_thread::<OursQuietly>, two_threads::<OursQuietly>),
        ("ours, batches of 32", one_thread::<OursBatched>, two_threads::<OursBatched>),
        ("rtrb, push / pop", one_thread::<Rtrb>, two_threads::<Rtrb>),
        ("crossbeam-channel, bounded", one_thread::<Crossbeam>, two_threads::<Crossbeam>),
    ];
    // Round by round, so that a busy spell of the machine meets all of them.
    let mut times = vec![(Vec::new(), Vec::new()); subjects.len()];
    for _ in 0..RUNS {
        for ((_, one, two), (ones, twos)) in subjects.iter().zip(&mut times) {
            ones.push(one());
            twos.push(two());
        }
    }
    println!("| million messages a second | 1 thread, best | median | 2 threads, best | median |");
    println!("|---|---|---|---|---|");
    for ((name, _, _), (ones, twos)) in subjects.iter().zip(&mut times) {
        report(name, ones, twos);
    }
}
