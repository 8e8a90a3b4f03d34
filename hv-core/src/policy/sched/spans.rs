//! Bounds for the requests of a set of entities: none is shorter, none is longer.
//!
//! Where all guests issue requests of the same length, as most do, the order by deadline is the order by start. The bounds tell when that
//! is so. Requests are counted in classes by their highest bit; each class remembers its extremes since it was empty, which are exact
//! where all are equal and within a factor of two always.

/// Counts by class.
#[derive(Clone, Debug)]
pub struct Spans {
    classes: [Class; 64],
    /// Bit n: class n is not empty.
    occupied: u64,
}

#[derive(Clone, Copy, Debug)]
struct Class {
    count: u64,
    shortest: u64,
    longest: u64,
}

const EMPTY: Class = Class { count: 0, shortest: u64::MAX, longest: 0 };

impl Spans {
    /// Bounds without requests.
    pub const fn new() -> Self {
        Self { classes: [EMPTY; 64], occupied: 0 }
    }

    /// The class of a request; the mask keeps the index inside the array for any bit position.
    #[inline]
    const fn class(span: u64) -> usize {
        (span | 1).ilog2() as usize & 63
    }

    /// Counts a request.
    #[inline]
    pub const fn add(&mut self, span: u64) {
        let index = Self::class(span);
        self.occupied |= 1 << index;
        let class = &mut self.classes[index];
        class.count = class.count.wrapping_add(1);
        if span < class.shortest {
            class.shortest = span;
        }
        if span > class.longest {
            class.longest = span;
        }
    }

    /// Forgets a request that was counted.
    #[inline]
    pub const fn remove(&mut self, span: u64) {
        let index = Self::class(span);
        let class = &mut self.classes[index];
        class.count = class.count.wrapping_sub(1);
        if class.count == 0 {
            *class = EMPTY;
            self.occupied &= !(1 << index);
        }
    }

    /// Lower bound of the counted requests: none is shorter; `u64::MAX` without requests.
    #[inline]
    pub const fn shortest(&self) -> u64 {
        if self.occupied == 0 {
            u64::MAX
        } else {
            self.classes[self.occupied.trailing_zeros() as usize & 63].shortest
        }
    }

    /// Upper bound of the counted requests: none is longer; 0 without requests.
    #[inline]
    pub const fn longest(&self) -> u64 {
        if self.occupied == 0 { 0 } else { self.classes[self.occupied.ilog2() as usize & 63].longest }
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
                let (Some(least), Some(most)) = (held.iter().min(), held.iter().max()) else {
                    prop_assert_eq!((spans.shortest(), spans.longest()), (u64::MAX, 0));
                    continue;
                };
                prop_assert!(spans.shortest() <= *least && *least <= 2 * spans.shortest() + 1);
                prop_assert!(*most <= spans.longest() && spans.longest() <= 2 * *most + 1);
            }
        }
    }
}
