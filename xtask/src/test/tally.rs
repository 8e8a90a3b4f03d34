//! Counting tests from what libtest prints.

use std::iter::Sum;
use std::ops::Add;

/// How many tests did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Not run.
    pub ignored: u64,
}

impl Tally {
    /// Returns one check's tally.
    pub fn of_one(passed: bool) -> Self {
        Self { passed: u64::from(passed), failed: u64::from(!passed), ignored: 0 }
    }

    /// Sums the `test result:` lines of `cargo test`. A cargo that failed without a failed test (a compile error, a test
    /// binary that aborted) counts as one failure more.
    pub fn of_cargo(output: &str, succeeded: bool) -> Self {
        let sum: Self = output.lines().filter_map(Self::of_line).sum();
        let unnamed = u64::from(!succeeded && sum.failed == 0);
        Self { failed: sum.failed + unnamed, ..sum }
    }

    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn of_line(line: &str) -> Option<Self> {
        let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let count = |what: &str| {
            let mut parts = counts.split(';').filter_map(|part| part.trim().split_once(' '));
            parts.find(|(_, word)| *word == what).and_then(|(number, _)| number.parse().ok())
        };
        Some(Self { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
    }
}

impl Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "running 2 tests\ntest a ... ok\ntest result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 \
                          filtered out; finished in 0.01s\n   Doc-tests x\ntest result: FAILED. 3 passed; 2 failed; 0 \
                          ignored; 0 measured; 0 filtered out; finished in 1.00s\n";

    #[test]
    fn all_binaries_are_summed() {
        assert_eq!(Tally::of_cargo(OUTPUT, false), Tally { passed: 15, failed: 2, ignored: 1 });
    }

    #[test]
    fn a_cargo_that_fails_without_a_failed_test_is_one_failure() {
        assert_eq!(Tally::of_cargo("error: could not compile", false), Tally::of_one(false));
        assert_eq!(Tally::of_cargo("test result: gibberish", true), Tally::default());
    }
}
