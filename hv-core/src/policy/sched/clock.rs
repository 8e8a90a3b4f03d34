//! Virtual time: service divided by weight, and the clock that entities are measured against.
//!
//! Virtual times are `u64`, in units of 2^-22 ticks at weight 1 (1/419 tick at weight 10,000), relative to a base that
//! follows the clock. Why nothing overflows, wraps or is lost:
//! - One step charges at most [`MAX_STEP`] = 2^38 ticks, so it moves a virtual time by at most 2^60; more is charged in steps.
//! - The base moves when the clock has reached [`MOVE_AT`] = 2^61, at earliest after 3 minutes at 3 GHz of a lone guest of
//!   weight 1. The clock stands at [`AFTER_MOVE`] = 2^58 then, and is below 2^61 + 2^60 always.
//! - A start beyond [`FARTHEST`] = 2^62 + 2^61 (debt of at least 6 minutes at weight 1, 10 hours at weight 100) stays there,
//!   and the rest is kept apart in ticks until the base has moved ([`super::entity::Entity::beyond`]): debt is never lost.
//! - A deadline is at most one request, 2^60, further than a start: below 2^63, so that bit 63 marks an empty leaf.
//! - What lags more than 2^58 behind the clock when the base moves is taken to lag by that; the theorem keeps it to
//!   2^47 (10 ms at weight 1).

use crate::base::time::Ticks;

/// Binary digits of a virtual time after the point.
const POINT: u32 = 22;
/// Digits that an inverse weight has beyond those.
const INVERSE_BITS: u32 = 32;
/// Longest time charged in one step.
pub const MAX_STEP: u64 = 1 << 38;
/// Where the clock stands when its base was moved.
const AFTER_MOVE: u64 = 1 << 58;
/// Where the base moves.
pub const MOVE_AT: u64 = 1 << 61;
/// Where a start stays when it would go further.
pub const FARTHEST: u64 = (1 << 62) + (1 << 61);

/// How fast virtual time runs under a weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    weight: u32,
    /// 2^54 / weight.
    inverse: u64,
}

impl Rate {
    /// The rate of `weight`; zero counts as 1.
    pub const fn of(weight: u32) -> Self {
        let weight = if weight == 0 { 1 } else { weight };
        Self { weight, inverse: (1 << (POINT + INVERSE_BITS)) / weight as u64 }
    }

    /// The weight.
    pub const fn weight(self) -> u32 {
        self.weight
    }

    /// Virtual time that passes in `length`, at most [`MAX_STEP`].
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "below 2^60 for any length up to MAX_STEP")]
    pub const fn span(self, length: Ticks) -> u64 {
        ((length.0 as u128 * self.inverse as u128) >> INVERSE_BITS) as u64
    }

    /// How much service a virtual span is, rounded to the next tick, saturating.
    #[expect(clippy::cast_possible_truncation, reason = "compared with u64::MAX first")]
    pub const fn service(self, span: u64) -> Ticks {
        let ticks = (span as u128 * self.weight as u128 + (1 << (POINT - 1))) >> POINT;
        Ticks(if ticks > u64::MAX as u128 { u64::MAX } else { ticks as u64 })
    }
}

/// The clock of the fair layer.
#[derive(Clone, Debug)]
pub struct Clock {
    /// V.
    pub now: u64,
    /// The rate of the sum of the admitted weights.
    pub rate: Rate,
}

impl Clock {
    /// A clock at its beginning, with nobody admitted.
    pub const fn new() -> Self {
        Self { now: AFTER_MOVE, rate: Rate::of(1) }
    }

    /// Lets `length` of the fair layer's time pass.
    #[inline]
    pub const fn advance(&mut self, length: Ticks) {
        self.now = self.now.wrapping_add(self.rate.span(length));
    }

    /// Moves the clock back to where it can go on, if that is due; returns by how much every virtual time moves with it.
    #[inline]
    pub const fn move_base(&mut self) -> Option<u64> {
        if self.now < MOVE_AT {
            return None;
        }
        let back = self.now - AFTER_MOVE;
        self.now = AFTER_MOVE;
        Some(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_and_its_service_convert_both_ways() {
        for weight in [1, 3, 256, 9_999, 10_000] {
            let rate = Rate::of(weight);
            for ticks in [1, 500, 6_000_000, MAX_STEP] {
                let back = rate.service(rate.span(Ticks(ticks))).0;
                assert!(back.abs_diff(ticks) <= ticks >> 30, "weight={weight} ticks={ticks} back={back}");
            }
        }
    }

    #[test]
    fn no_step_leaves_the_range() {
        let longest = Rate::of(1).span(Ticks(MAX_STEP));
        assert_eq!(longest, 1 << 60);
        assert!(MOVE_AT + longest < FARTHEST);
        assert!(FARTHEST + longest < 1 << 63);
        assert!(u128::from(Rate::of(u32::MAX).service(u64::MAX).0) < u128::from(u64::MAX) + 1);
    }

    #[test]
    fn the_base_moves_when_it_is_due() {
        let mut clock = Clock::new();
        assert_eq!(clock.move_base(), None);
        clock.now = MOVE_AT + 5;
        assert_eq!(clock.move_base(), Some(MOVE_AT + 5 - AFTER_MOVE));
        assert_eq!(clock.now, AFTER_MOVE);
    }
}
