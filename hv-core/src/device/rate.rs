//! A device's clock against the time-stamp counter, without drift.

use crate::base::time::{Frequency, Ticks};

/// Ratio of time-stamp counter ticks to a device's clocks, in lowest terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    tsc: u64,
    device: u64,
}

impl Rate {
    /// Returns the rate of a device whose clock is given in kHz.
    pub const fn of(tsc: Frequency, device: Frequency) -> Self {
        Self::reduced(tsc.khz(), device.khz())
    }

    /// Returns the rate of a device that counts `device_hz` clocks in `seconds` seconds; 0 is taken as 1.
    pub const fn of_hz_per(tsc: Frequency, device_hz: u32, seconds: u8) -> Self {
        Self::reduced(
            tsc.khz() * 1000 * if seconds == 0 { 1 } else { seconds as u64 },
            if device_hz == 0 { 1 } else { device_hz as u64 },
        )
    }

    const fn reduced(tsc: u64, device: u64) -> Self {
        let (mut a, mut b) = (tsc, device);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Self { tsc: tsc / a, device: device / a }
    }

    /// Ticks per clock, if that is a whole number of at most 32 bits.
    #[expect(clippy::cast_possible_truncation, reason = "the upper half is compared with zero first")]
    pub const fn whole_ticks(self) -> Option<u32> {
        if self.device == 1 && self.tsc >> 32 == 0 { Some(self.tsc as u32) } else { None }
    }

    /// Returns the ticks after which `clocks` clocks have passed: rounded up, saturating. `clocks(ticks(n)) >= n`.
    #[inline]
    pub const fn ticks(self, clocks: u64) -> Ticks {
        Ticks(match clocks.checked_mul(self.tsc) {
            Some(product) if self.device == 1 => product,
            Some(product) => product.div_ceil(self.device),
            None => saturate((clocks as u128 * self.tsc as u128).div_ceil(self.device as u128)),
        })
    }

    /// Returns the whole clocks in `length`, saturating.
    #[inline]
    pub const fn clocks(self, length: Ticks) -> u64 {
        match length.0.checked_mul(self.device) {
            Some(product) => product / self.tsc,
            None => saturate(length.0 as u128 * self.device as u128 / self.tsc as u128),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the value is compared with u64::MAX first")]
const fn saturate(wide: u128) -> u64 {
    if wide > u64::MAX as u128 { u64::MAX } else { wide as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_is_the_frequency_in_either_unit() {
        let tsc = Frequency::from_khz(2_499_999).unwrap();
        let timer = Rate::of_hz_per(tsc, 3_579_545, 1);
        assert_eq!(timer.clocks(Ticks(2_499_999_000)), 3_579_545);
        assert_eq!(timer.ticks(3_579_545), Ticks(2_499_999_000));
        assert_eq!(Rate::of(tsc, tsc).ticks(7), Ticks(7));
    }

    proptest! {
        #[test]
        fn the_moment_of_a_clock_is_the_first_that_counts_it(
            tsc_khz in 1_u64..1 << 34, device_hz: u32, seconds: u8, clocks in 0_u64..1 << 60,
        ) {
            let rate = Rate::of_hz_per(Frequency::from_khz(tsc_khz).unwrap(), device_hz, seconds);
            let at = rate.ticks(clocks);
            if at.0 != u64::MAX {
                prop_assert!(rate.clocks(at) >= clocks);
                prop_assert!(at.0 == 0 || rate.clocks(Ticks(at.0 - 1)) < clocks);
            }
        }

        #[test]
        fn no_length_overflows(tsc_khz in 1_u64..1 << 34, device_hz: u32, seconds: u8, length: u64) {
            let rate = Rate::of_hz_per(Frequency::from_khz(tsc_khz).unwrap(), device_hz, seconds);
            let _ = (rate.ticks(length), rate.clocks(Ticks(length)));
        }
    }
}
