//! Virtual time: service divided by weight, and the clock that entities are measured against.
//!
//! A [`Virtual`] counts 2^-52 ticks of a guest of weight 1, in 128 bits: 2^76 ticks, a million years at 3 GHz, so it
//! never wraps. Charging is one 64 × 64 → 128 bit product with a precomputed inverse weight, and exact: nothing is
//! rounded off but the inverse, by less than 2^-28 of it for the largest sum of weights (1,023 × 10,000 < 2^24).
//!
//! The trees order by [`Clock::key`]: bits 40 and up of the distance to a base that follows the clock. A key counts
//! 2^-12 ticks at weight 1, or 2.4 ticks at weight 10,000. Keys reach 2^53 = 2^41 ticks at weight 1, 12 minutes at
//! 3 GHz; the base moves before the clock reaches half of that. Debt beyond the rest is ordered as if equal to it; the
//! debt itself stays exact.

use super::tree::KEY_MAX;
use crate::base::time::Ticks;

/// Binary digits after the point of an inverse weight.
const FRACTION_BITS: u32 = 52;
/// Digits of a virtual time below a key's unit.
const KEY_SHIFT: u32 = 40;
/// Where the clock stands, in key units, right after its base moved: room for those behind it.
const KEY_AFTER_MOVE: u64 = 1 << 50;
/// From here on the base moves.
const KEY_LIMIT: u64 = 1 << 52;

/// A virtual time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Virtual(pub u128);

/// How fast virtual time runs under a weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    weight: u32,
    inverse: u64,
}

impl Rate {
    /// The rate of `weight`; zero counts as 1.
    pub const fn of(weight: u32) -> Self {
        let weight = if weight == 0 { 1 } else { weight };
        Self { weight, inverse: (1 << FRACTION_BITS) / weight as u64 }
    }

    /// The weight.
    pub const fn weight(self) -> u32 {
        self.weight
    }

    /// Virtual time that passes in `length`.
    #[inline]
    pub const fn span(self, length: Ticks) -> u128 {
        length.0 as u128 * self.inverse as u128
    }

    /// How much service a virtual span is, saturating.
    #[expect(clippy::cast_possible_truncation, reason = "compared with u64::MAX first")]
    pub const fn service(self, span: u128) -> Ticks {
        let whole = (span >> FRACTION_BITS).saturating_mul(self.weight as u128);
        let part = (span & ((1 << FRACTION_BITS) - 1)) * self.weight as u128;
        let ticks = whole.saturating_add((part + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS);
        Ticks(if ticks > u64::MAX as u128 { u64::MAX } else { ticks as u64 })
    }
}

/// The clock of the fair layer.
#[derive(Clone, Debug)]
pub struct Clock {
    /// V.
    pub now: Virtual,
    /// The rate of the sum of the admitted weights.
    pub rate: Rate,
    base: u128,
}

impl Clock {
    /// A clock at its beginning, with nobody admitted.
    pub const fn new() -> Self {
        let start = (KEY_AFTER_MOVE as u128) << KEY_SHIFT;
        Self { now: Virtual(start), rate: Rate::of(1), base: 0 }
    }

    /// Lets `length` of the fair layer's time pass.
    #[inline]
    pub const fn advance(&mut self, length: Ticks) {
        self.now.0 = self.now.0.wrapping_add(self.rate.span(length));
    }

    /// The order of a virtual time among those queued.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "compared with KEY_MAX first")]
    pub const fn key(&self, at: Virtual) -> u64 {
        let units = at.0.wrapping_sub(self.base) >> KEY_SHIFT;
        if units <= KEY_MAX as u128 {
            units as u64
        } else if at.0 < self.base {
            0
        } else {
            KEY_MAX
        }
    }

    /// Whether the base has to move.
    #[inline]
    pub const fn is_due(&self) -> bool {
        self.key(self.now) >= KEY_LIMIT
    }

    /// Moves the base up to the clock. Every key taken before is stale after.
    pub const fn move_base(&mut self) {
        self.base = self.now.0 - ((KEY_AFTER_MOVE as u128) << KEY_SHIFT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_and_its_service_convert_both_ways() {
        for weight in [1, 3, 256, 9_999, 10_000, 10_230_000] {
            let rate = Rate::of(weight);
            for ticks in [1, 500, 6_000_000, 1 << 40] {
                let back = rate.service(rate.span(Ticks(ticks))).0;
                assert!(back.abs_diff(ticks) <= ticks >> 28, "weight={weight} ticks={ticks} back={back}");
            }
        }
        assert_eq!(Rate::of(10_000).service(u128::MAX), Ticks(u64::MAX));
    }

    #[test]
    fn keys_keep_the_order_when_the_base_moves() {
        let mut clock = Clock::new();
        let far = Virtual(u128::MAX >> 2);
        assert_eq!(clock.key(far), KEY_MAX);
        clock.now = Virtual((u128::from(KEY_LIMIT) + 5) << KEY_SHIFT);
        assert!(clock.is_due());
        let behind = Virtual(clock.now.0 - (1 << 60));
        let distance = clock.key(clock.now) - clock.key(behind);
        clock.move_base();
        assert!(!clock.is_due());
        assert_eq!(clock.key(clock.now), KEY_AFTER_MOVE);
        assert_eq!(clock.key(clock.now) - clock.key(behind), distance);
        assert_eq!(clock.key(Virtual(0)), 0);
        assert_eq!(clock.key(far), KEY_MAX);
    }
}
