//! What questions and answers tell of how far another processor's time-stamp counter is from this one's.

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
