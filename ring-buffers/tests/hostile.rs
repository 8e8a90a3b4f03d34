//! A peer that writes anything anywhere gets an error or delivers bad content; it never reaches outside the ring, and never
//! makes it hold more than it does.
#![cfg(not(loom))]

use proptest::prelude::*;
use ring_buffers::{
    AttachError, Memory, Region, RingError, bytes, records, words_for_bytes, words_for_records,
};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

const CAPACITY: usize = 4;
const CANARY: u64 = 0xC0FF_EE00_DEAD_BEEF;
const MARGIN: usize = 64;

/// Memory of a ring with canaries before and behind it.
struct Fenced {
    words: Vec<AtomicU64>,
}

impl Fenced {
    fn new(words: usize) -> Self {
        let inside = MARGIN..MARGIN + words;
        let fill = |at| AtomicU64::new(if inside.contains(&at) { 0 } else { CANARY });
        Self { words: (0..words + 2 * MARGIN).map(fill).collect() }
    }

    fn inside(&self) -> &[AtomicU64] {
        &self.words[MARGIN..self.words.len() - MARGIN]
    }

    #[expect(unsafe_code, reason = "makes the region under test")]
    fn region(&self) -> Region {
        let inside = self.inside();
        // SAFETY: `Fenced` outlives the regions (each test drops it last), and everybody uses atomics.
        unsafe { Region::new(NonNull::from(&inside[0]).cast(), inside.len()) }
    }

    fn canaries_live(&self) -> bool {
        let (before, after) = (&self.words[..MARGIN], &self.words[self.words.len() - MARGIN..]);
        before.iter().chain(after).all(|word| word.load(Relaxed) == CANARY)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Scribble { at: usize, value: u64 },
    Push(usize),
    Pop(usize),
    WaitForData(usize),
    WaitForRoom(usize),
    Reset,
}

/// Values near what an index may be, and any other.
fn words() -> impl Strategy<Value = u64> {
    prop_oneof![0..20u64, (0..20u64).prop_map(u64::wrapping_neg), any::<u64>()]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let header = prop_oneof![Just(8usize), Just(16), Just(24), Just(32), any::<usize>()];
    let step = prop_oneof![
        3 => (header, words()).prop_map(|(at, value)| Step::Scribble { at, value }),
        3 => (0..6usize).prop_map(Step::Push),
        3 => (0..6usize).prop_map(Step::Pop),
        1 => any::<usize>().prop_map(Step::WaitForData),
        1 => any::<usize>().prop_map(Step::WaitForRoom),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 0..100)
}

/// Follows one end: once corrupt it stays so, with the same evidence, until reset.
#[derive(Default)]
struct Verdict(Option<RingError>);

impl Verdict {
    fn note<T>(&mut self, result: Result<T, RingError>) -> Option<T> {
        if let Some(before) = self.0 {
            assert_eq!(result.as_ref().err(), Some(&before), "a corrupt ring was used");
        }
        match result {
            Ok(value) => Some(value),
            Err(refusal) => {
                if let RingError::Corrupt(corrupt) = refusal {
                    let span = corrupt.highest.wrapping_sub(corrupt.lowest);
                    assert!(corrupt.claimed.wrapping_sub(corrupt.lowest) > span, "refused what was possible");
                    self.0 = Some(refusal);
                }
                None
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_word_of_the_peer_leads_a_record_ring_astray(steps in steps()) {
        let fenced = Fenced::new(words_for_records(CAPACITY, 3));
        let mut producer = records::Producer::<_, 3>::create(fenced.region()).unwrap();
        let mut consumer = records::Consumer::<_, 3>::attach(fenced.region()).unwrap();
        let (mut sending, mut receiving) = (Verdict::default(), Verdict::default());
        for step in steps {
            match step {
                Step::Scribble { at, value } => fenced.inside()[at % fenced.inside().len()].store(value, Relaxed),
                Step::Push(count) => {
                    if let Some(pushed) = sending.note(producer.push_many(&vec![[1, 2, 3]; count])) {
                        prop_assert!(pushed.count <= count.min(CAPACITY));
                    }
                }
                Step::Pop(count) => {
                    let mut to = vec![[CANARY; 3]; count];
                    match receiving.note(consumer.pop_many(&mut to)) {
                        Some(popped) => prop_assert!(popped.value <= count.min(CAPACITY)),
                        None => prop_assert!(to.iter().all(|record| *record == [CANARY; 3])),
                    }
                }
                Step::WaitForData(wanted) => drop(receiving.note(consumer.prepare_to_wait(wanted))),
                Step::WaitForRoom(wanted) => drop(sending.note(producer.prepare_to_wait(wanted))),
                Step::Reset => {
                    producer.reset();
                    consumer.reset();
                    (sending, receiving) = (Verdict::default(), Verdict::default());
                    prop_assert_eq!(producer.room(), Ok(CAPACITY));
                    prop_assert_eq!(consumer.available(), Ok(0));
                }
            }
            if let Some(room) = sending.note(producer.room()) {
                prop_assert!(room <= CAPACITY);
            }
            if let Some(available) = receiving.note(consumer.available()) {
                prop_assert!(available <= CAPACITY);
            }
            prop_assert!(fenced.canaries_live());
        }
    }

    #[test]
    fn no_word_of_the_peer_leads_a_byte_ring_astray(steps in steps()) {
        let capacity = 16;
        let fenced = Fenced::new(words_for_bytes(capacity));
        let mut producer = bytes::Producer::create(fenced.region()).unwrap();
        let mut consumer = bytes::Consumer::attach(fenced.region()).unwrap();
        let (mut sending, mut receiving) = (Verdict::default(), Verdict::default());
        for step in steps {
            match step {
                Step::Scribble { at, value } => fenced.inside()[at % fenced.inside().len()].store(value, Relaxed),
                Step::Push(count) => {
                    let bytes = vec![0x55; count * 5];
                    if let Some(pushed) = sending.note(producer.push(&bytes)) {
                        prop_assert!(pushed.count <= bytes.len().min(capacity));
                    }
                }
                Step::Pop(count) => {
                    let mut to = vec![0xEE; count * 5];
                    match receiving.note(consumer.pop(&mut to)) {
                        Some(popped) => prop_assert!(popped.value <= to.len().min(capacity)),
                        None => prop_assert!(to.iter().all(|byte| *byte == 0xEE)),
                    }
                }
                Step::WaitForData(wanted) => drop(receiving.note(consumer.prepare_to_wait(wanted))),
                Step::WaitForRoom(wanted) => drop(sending.note(producer.prepare_to_wait(wanted))),
                Step::Reset => {
                    producer.reset();
                    consumer.reset();
                    (sending, receiving) = (Verdict::default(), Verdict::default());
                    prop_assert_eq!(producer.room(), Ok(capacity));
                }
            }
            prop_assert!(fenced.canaries_live());
        }
    }

    #[test]
    fn memory_of_any_content_is_refused_or_a_ring_within_its_bounds(content in prop::collection::vec(words(), 0..80), header: bool) {
        let words: Vec<AtomicU64> = content.iter().copied().map(AtomicU64::new).collect();
        if header && words.len() > 40 {
            let tail = words[16].load(Relaxed);
            records::Producer::<_, 2>::create(&words[..]).ok();
            words[8].store(content[8], Relaxed);
            words[16].store(tail, Relaxed);
        }
        let before: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
        match records::Consumer::<_, 2>::attach(&words[..]) {
            Ok(mut consumer) => {
                prop_assert!(words_for_records(consumer.capacity(), 2) <= words.len());
                prop_assert!(consumer.available().unwrap() <= consumer.capacity());
            }
            Err(AttachError::TooSmall { words: given }) => prop_assert_eq!(given, words.len()),
            Err(AttachError::NoRing { found }) => prop_assert_eq!(found, before[0]),
            Err(AttachError::OtherGeometry { found, .. }) => prop_assert_eq!(found, before[1]),
            Err(AttachError::Corrupt(corrupt)) => prop_assert_eq!(corrupt.claimed, before[8]),
        }
        let after: Vec<u64> = words.iter().map(|word| word.load(Relaxed)).collect();
        prop_assert_eq!(before, after, "attach wrote");
    }
}

#[test]
fn a_claim_of_more_than_the_ring_holds_is_corrupt_and_stays_so_until_reset() {
    let fenced = Fenced::new(words_for_records(CAPACITY, 1));
    let mut producer = records::Producer::<_, 1>::create(fenced.region()).unwrap();
    let mut consumer = records::Consumer::<_, 1>::attach(fenced.region()).unwrap();
    fenced.inside()[8].store(5, Relaxed);
    let refusal = consumer.pop().unwrap_err();
    assert!(matches!(refusal, RingError::Corrupt(corrupt) if corrupt.claimed == 5 && corrupt.highest == 4));
    fenced.inside()[8].store(0, Relaxed);
    assert_eq!(consumer.pop(), Err(refusal), "an honest word does not heal it");
    assert_eq!(fenced.inside()[16].load(Relaxed), 0, "nothing was taken");
    consumer.reset();
    let _ = producer.push(&[3]).unwrap();
    assert_eq!(consumer.pop().unwrap().value, [3]);
}

#[test]
fn an_index_that_goes_back_is_corrupt() {
    let fenced = Fenced::new(words_for_records(CAPACITY, 1));
    let mut producer = records::Producer::<_, 1>::create(fenced.region()).unwrap();
    let mut consumer = records::Consumer::<_, 1>::attach(fenced.region()).unwrap();
    let _ = producer.push_many(&[[1], [2], [3]]).unwrap();
    assert_eq!(consumer.available(), Ok(3));
    fenced.inside()[8].store(2, Relaxed);
    assert!(matches!(consumer.available(), Err(RingError::Corrupt(_))));
}

#[test]
fn a_ring_of_another_shape_is_refused() {
    let words: Vec<AtomicU64> = (0..words_for_records(8, 4)).map(|_| AtomicU64::new(0)).collect();
    assert!(matches!(records::Consumer::<_, 4>::attach(&words[..]), Err(AttachError::NoRing { found: 0 })));
    let _producer = records::Producer::<_, 4>::create(&words[..]).unwrap();
    assert!(records::Consumer::<_, 4>::attach(&words[..]).is_ok());
    assert!(matches!(records::Consumer::<_, 2>::attach(&words[..]), Err(AttachError::OtherGeometry { .. })));
    assert!(matches!(bytes::Consumer::attach(&words[..]), Err(AttachError::OtherGeometry { .. })));
    assert!(matches!(
        records::Consumer::<_, 4>::attach(&words[..56]),
        Err(AttachError::OtherGeometry { .. })
    ));
    assert!(matches!(
        records::Consumer::<_, 4>::attach(&words[..43]),
        Err(AttachError::TooSmall { words: 43 })
    ));
}

#[test]
fn a_region_ends_where_it_ends() {
    let fenced = Fenced::new(48);
    let region = fenced.region();
    region.store(47, 9);
    let mut all = [0; 48];
    region.copy_out(0, &mut all);
    assert_eq!(all[47], 9);
    region.copy_out(48, &mut []);
    for (index, count) in [(48, 1), (47, 2), (0, 49), (usize::MAX, 1), (49, 0)] {
        let outside = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            region.copy_in(index, &vec![0; count]);
        }));
        assert!(outside.is_err(), "index={index} count={count}");
    }
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| region.load(48))).is_err());
    assert!(fenced.canaries_live());
}

#[test]
fn a_thread_that_scribbles_all_the_time_is_survived() {
    let fenced = Fenced::new(words_for_records(CAPACITY, 3));
    let mut producer = records::Producer::<_, 3>::create(fenced.region()).unwrap();
    let mut consumer = records::Consumer::<_, 3>::attach(fenced.region()).unwrap();
    let stop = AtomicBool::new(false);
    let (mut corrupt, mut delivered) = (0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut seed = 1u64;
            while !stop.load(Relaxed) {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = usize::try_from(seed >> 33).unwrap() % fenced.inside().len();
                // Small values look like indices, large ones like nothing.
                fenced.inside()[at].store(if seed & 1 == 0 { seed >> 60 } else { seed }, Relaxed);
            }
        });
        for _ in 0..100_000 {
            let mut to = [[0; 3]; 8];
            match producer.push_many(&[[1, 2, 3]; 6]) {
                Ok(pushed) => assert!(pushed.count <= CAPACITY),
                Err(RingError::Full | RingError::Empty) => {}
                Err(RingError::Corrupt(_)) => producer.reset(),
            }
            match consumer.pop_many(&mut to) {
                Ok(popped) => {
                    assert!(popped.value <= CAPACITY);
                    delivered += popped.value;
                }
                Err(RingError::Full | RingError::Empty) => {}
                Err(RingError::Corrupt(_)) => {
                    corrupt += 1;
                    consumer.reset();
                }
            }
        }
        stop.store(true, Relaxed);
    });
    assert!(fenced.canaries_live());
    assert!(delivered > 0, "nothing came through: the test tests nothing");
    assert!(corrupt > 0, "nothing was corrupt: the test tests nothing");
}
