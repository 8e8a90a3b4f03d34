//! Measures the offset of another processor's time-stamp counter from this one's, by asking that processor for its time.

use super::time::now_in_order;
use crate::policy::skew::Bounds;
use core::hint::spin_loop;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Release};

/// Rounds of question and answer; each can only narrow the bounds.
const ROUNDS: u64 = 32;

/// The words through which one processor asks and another answers.
#[derive(Debug, Default)]
pub struct Question {
    asked: AtomicU64,
    answered: AtomicU64,
    time: AtomicU64,
}

impl Question {
    /// Asks `ROUNDS` times, while the other processor runs [`Self::answer`]; returns the bounds of the other counter's offset.
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

    /// Answers all `ROUNDS` questions of the processor that runs [`Self::ask`].
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
    fn two_threads_on_one_clock_agree() {
        let question = Question::default();
        std::thread::scope(|scope| {
            scope.spawn(|| question.answer());
            let bounds = question.ask();
            assert!(bounds.least <= bounds.most);
        });
    }
}
