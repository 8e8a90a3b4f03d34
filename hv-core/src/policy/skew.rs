//! Bounds on the skew between two processors' time-stamp counters, from rounds of question and answer.

/// The lead of the other processor's counter over this processor's, in ticks: between `least` and `most`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Lower bound of the lead, in ticks.
    pub least: i64,
    /// Upper bound of the lead, in ticks.
    pub most: i64,
}

impl Bounds {
    /// The bounds before any round.
    pub const ANY: Self = Self { least: i64::MIN, most: i64::MAX };

    /// Narrows the bounds by one round: this processor asked at `before`, and had the answer, the other's counter `time`, at `after`.
    #[must_use]
    pub fn narrowed(self, before: u64, time: u64, after: u64) -> Self {
        let ahead_of = |ours: u64| time.wrapping_sub(ours).cast_signed();
        Self { least: self.least.max(ahead_of(after)), most: self.most.min(ahead_of(before)) }
    }

    /// Lower bound of the skew in either direction, in ticks; 0 where the counters may agree.
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
}
