//! How far another processor's time-stamp counter is from this one's, by asking it the time.

use super::time::now_in_order;
use core::hint::spin_loop;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Release};

/// Rounds; each can only narrow the answer.
const ROUNDS: u64 = 32;

/// Where one processor asks and another answers.
#[derive(Debug, Default)]
pub struct Question {
    asked: AtomicU64,
    answered: AtomicU64,
    time: AtomicU64,
}

/// What the other's counter is ahead of ours, in ticks: somewhere from `least` to `most`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// At least.
    pub least: i64,
    /// At most.
    pub most: i64,
}

impl Bounds {
    /// Nothing is known.
    pub const ANY: Self = Self { least: i64::MIN, most: i64::MAX };

    /// Narrowed by a round that was asked at `before` and answered at `after` with `time`.
    #[must_use]
    pub fn narrowed(self, before: u64, time: u64, after: u64) -> Self {
        let ahead_of = |ours: u64| time.wrapping_sub(ours).cast_signed();
        Self { least: self.least.max(ahead_of(after)), most: self.most.min(ahead_of(before)) }
    }

    /// What the skew is at least, either way, in ticks: 0 where the counters may well agree.
    pub const fn skew(self) -> u64 {
        if self.least > 0 {
            self.least.unsigned_abs()
        } else if self.most < 0 {
            self.most.unsigned_abs()
        } else {
            0
        }
    }
}

impl Question {
    /// Asks. The other is in [`Self::answer`].
    pub fn ask(&self) -> Bounds {
        let mut bounds = Bounds::ANY;
        for round in 1..=ROUNDS {
            let before = now_in_order().0;
            self.asked.store(round, Release);
            while self.answered.load(Acquire) != round {
                spin_loop();
            }
            bounds = bounds.narrowed(before, self.time.load(Acquire), now_in_order().0);
        }
        bounds
    }

    /// Answers everything that is asked.
    pub fn answer(&self) {
        for round in 1..=ROUNDS {
            while self.asked.load(Acquire) != round {
                spin_loop();
            }
            self.time.store(now_in_order().0, Release);
            self.answered.store(round, Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_narrow_the_skew_from_both_sides() {
        let bounds = Bounds::ANY.narrowed(100, 1_150, 200).narrowed(300, 1_310, 420);
        assert_eq!(bounds, Bounds { least: 950, most: 1_010 });
        assert_eq!(bounds.skew(), 950);
        assert_eq!(Bounds::ANY.narrowed(100, 150, 200).skew(), 0);
        assert_eq!(Bounds::ANY.narrowed(1_000, 400, 1_100).skew(), 600);
    }

    #[test]
    fn two_threads_on_one_clock_agree() {
        let question = Question::default();
        std::thread::scope(|scope| {
            scope.spawn(|| question.answer());
            let bounds = question.ask();
            assert!(bounds.least <= bounds.most);
        });
    }
}
