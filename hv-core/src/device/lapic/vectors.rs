//! A set of interrupt vectors, as IRR, ISR and TMR are: 256 bits and a summary.

use crate::base::addr::low;

/// Vectors 0 … 255.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vectors {
    words: [u64; 4],
    /// Bit n: `words[n]` is not zero.
    summary: u8,
}

impl Vectors {
    /// No vector.
    pub const EMPTY: Self = Self { words: [0; 4], summary: 0 };

    /// Adds `vector`.
    #[inline]
    pub const fn insert(&mut self, vector: u8) {
        let word = (vector >> 6) as usize;
        self.words[word] |= 1 << (vector & 63);
        self.summary |= 1 << word;
    }

    /// Takes `vector` out.
    #[inline]
    pub const fn remove(&mut self, vector: u8) {
        let word = (vector >> 6) as usize;
        self.words[word] &= !(1 << (vector & 63));
        if self.words[word] == 0 {
            self.summary &= !(1 << word);
        }
    }

    /// Whether the set has no vector.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.summary == 0
    }

    /// Whether `vector` is in the set.
    #[inline]
    pub const fn contains(&self, vector: u8) -> bool {
        self.words[(vector >> 6) as usize] >> (vector & 63) & 1 != 0
    }

    /// The highest vector of the set.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the sum is at most 255")]
    pub const fn highest(&self) -> Option<u8> {
        if self.summary == 0 {
            return None;
        }
        let word = (self.summary.ilog2() & 3) as usize;
        match self.words[word].checked_ilog2() {
            Some(bit) => Some((word as u32 * 64 + bit) as u8),
            None => None,
        }
    }

    /// The `n`th 32 bits, `n` modulo 8, as the registers show them.
    pub const fn register(&self, n: u32) -> u32 {
        low(self.words[(n >> 1 & 3) as usize] >> ((n & 1) * 32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_behaves_as_a_set(steps in prop::collection::vec((any::<bool>(), any::<u8>()), 0..80)) {
            let (mut set, mut model) = (Vectors::default(), BTreeSet::new());
            for (add, vector) in steps {
                if add {
                    set.insert(vector);
                    model.insert(vector);
                } else {
                    set.remove(vector);
                    model.remove(&vector);
                }
                prop_assert_eq!(set.highest(), model.last().copied());
                prop_assert_eq!(set.contains(vector), add);
                let shown = set.register(u32::from(vector >> 5)) >> (vector & 31) & 1 != 0;
                prop_assert_eq!(shown, add);
            }
        }
    }
}
