//! Time is counted in ticks of the time-stamp counter; nanoseconds are for people and for the ABI.

use core::ops::{Add, Sub};

/// A moment: a value of this machine's time-stamp counter, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Tsc(pub u64);

/// A length of time, in ticks of the time-stamp counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Ticks(pub u64);

impl Tsc {
    /// A moment that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// Returns how long ago `earlier` was, or zero when it lies ahead.
    pub const fn since(self, earlier: Self) -> Ticks {
        Ticks(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Ticks> for Tsc {
    type Output = Self;
    fn add(self, length: Ticks) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

impl Sub<Ticks> for Tsc {
    type Output = Self;
    fn sub(self, length: Ticks) -> Self {
        Self(self.0.saturating_sub(length.0))
    }
}

/// How fast a counter runs, in kHz: 1 kHz … about 18 GHz.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frequency {
    khz: u64,
}

impl Frequency {
    /// Returns the frequency, or `None` for zero and from 2^34 kHz on (products with nanoseconds need 128 bits only).
    pub const fn from_khz(khz: u64) -> Option<Self> {
        if khz == 0 || khz >> 34 != 0 { None } else { Some(Self { khz }) }
    }

    /// Thousands of ticks a second.
    pub const fn khz(self) -> u64 {
        self.khz
    }

    /// Ticks in `ns` nanoseconds, saturating.
    pub const fn ticks(self, ns: u64) -> Ticks {
        Ticks(scale(ns, self.khz, 1_000_000))
    }

    /// Nanoseconds in `length`, saturating.
    pub const fn ns(self, length: Ticks) -> u64 {
        scale(length.0, 1_000_000, self.khz)
    }
}

/// `value * numerator / denominator` in 128 bits, saturating; `denominator` is not zero.
#[expect(clippy::cast_possible_truncation, reason = "the value is compared with u64::MAX first")]
pub const fn scale(value: u64, numerator: u64, denominator: u64) -> u64 {
    let wide = value as u128 * numerator as u128 / denominator as u128;
    if wide > u64::MAX as u128 { u64::MAX } else { wide as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_and_ticks_convert_both_ways() {
        let tsc = Frequency::from_khz(2_500_000).unwrap();
        assert_eq!(tsc.ticks(1_000), Ticks(2_500));
        assert_eq!(tsc.ns(Ticks(2_500)), 1_000);
        assert_eq!(tsc.ticks(u64::MAX), Ticks(u64::MAX));
    }

    #[test]
    fn a_moment_ahead_is_zero_ticks_ago() {
        assert_eq!(Tsc(5).since(Tsc(9)), Ticks(0));
    }

    #[test]
    fn no_frequency_is_zero() {
        assert_eq!(Frequency::from_khz(0), None);
    }
}
