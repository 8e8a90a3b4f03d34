//! A lower bound for the requests of the entities that are ahead of the clock.
//!
//! None of them can preempt the runner unless its start, and so the least start, plus its request comes before the runner's
//! deadline. Knowing the shortest request saves the timer in the usual case that none can. Requests are counted in classes by
//! their highest bit; each class remembers its least since it was empty. Both changes are a few instructions.

/// Counts by class.
#[derive(Clone, Debug)]
pub struct Spans {
    count: [u16; 64],
    least: [u64; 64],
    /// Bit n: class n is not empty.
    occupied: u64,
}

impl Spans {
    /// No requests.
    pub const fn new() -> Self {
        Self { count: [0; 64], least: [u64::MAX; 64], occupied: 0 }
    }

    /// The class of a request; the mask keeps the index inside the arrays for any bit position.
    #[inline]
    const fn class(span: u64) -> usize {
        (span | 1).ilog2() as usize & 63
    }

    /// Counts a request.
    #[inline]
    pub const fn add(&mut self, span: u64) {
        let class = Self::class(span);
        self.count[class] = self.count[class].wrapping_add(1);
        self.occupied |= 1 << class;
        if span < self.least[class] {
            self.least[class] = span;
        }
    }

    /// Forgets a request that was counted.
    #[inline]
    pub const fn remove(&mut self, span: u64) {
        let class = Self::class(span);
        self.count[class] = self.count[class].wrapping_sub(1);
        if self.count[class] == 0 {
            self.occupied &= !(1 << class);
            self.least[class] = u64::MAX;
        }
    }

    /// No counted request is shorter; `u64::MAX` when there is none.
    #[inline]
    pub const fn shortest(&self) -> u64 {
        if self.occupied == 0 { u64::MAX } else { self.least[self.occupied.trailing_zeros() as usize & 63] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_bound_holds_within_a_factor_of_two(steps in proptest::collection::vec((any::<bool>(), 0u64..1 << 20, any::<prop::sample::Index>()), 1..100)) {
            let mut spans = Spans::new();
            let mut held: Vec<u64> = Vec::new();
            for (adds, span, which) in steps {
                if adds || held.is_empty() {
                    held.push(span);
                    spans.add(span);
                } else {
                    spans.remove(held.swap_remove(which.index(held.len())));
                }
                match held.iter().min() {
                    None => prop_assert_eq!(spans.shortest(), u64::MAX),
                    Some(least) => prop_assert!(spans.shortest() <= *least && *least <= 2 * spans.shortest() + 1),
                }
            }
        }
    }
}
