//! How far another processor's time-stamp counter is from this one's, by asking it the time.

use super::time::now_in_order;
use crate::policy::skew::Bounds;
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
    fn two_threads_on_one_clock_agree() {
        let question = Question::default();
        std::thread::scope(|scope| {
            scope.spawn(|| question.answer());
            let bounds = question.ask();
            assert!(bounds.least <= bounds.most);
        });
    }
}
