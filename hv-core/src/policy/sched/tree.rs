//! A winner tree: the smallest word of a fixed set of leaves, kept while leaves change one at a time.
//!
//! Flat, without pointers and without a map from item to position: leaf `i` is node `leaves + i`, node `n` has the
//! children `2n` and `2n + 1`, the root is node 1. A change walks from its leaf towards the root, one comparison a
//! level, and stops where nothing changes: at most log2(leaves) steps, one or two when a late word is put in.

use alloc::vec;
use alloc::vec::Vec;

/// Leaves a tree may have; as many values have the low bits of a word that name its leaf.
pub const MAX_LEAVES: usize = 1 << 10;
/// The bits of a word that name its leaf.
pub const LEAF: u64 = MAX_LEAVES as u64 - 1;
/// What an empty leaf holds; it loses against every word.
pub const EMPTY: u64 = u64::MAX;

/// A time and the leaf it belongs to, in one word, so that one comparison orders both: the lowest ten bits of the time
/// give way to the leaf. Ties go to the lower leaf.
#[inline]
pub const fn word(time: u64, leaf: u16) -> u64 {
    (time & !LEAF) | (leaf as u64 & LEAF)
}

/// The leaf of a word.
#[inline]
pub const fn leaf_of(word: u64) -> u16 {
    (word & LEAF) as u16
}

/// Whether `word` is earlier than `other`, leaves apart.
#[inline]
pub const fn is_before(word: u64, other: u64) -> bool {
    word < other & !LEAF
}

/// The tree. Nodes are stored in pairs of siblings, so that a step reads one pair.
#[derive(Clone, Debug)]
pub struct Tree {
    /// Node `n` is `pairs[n / 2][n % 2]`, but for the root; as many pairs as leaves.
    pairs: Vec<[u64; 2]>,
    /// Node 1.
    root: u64,
}

impl Tree {
    /// A tree of one empty leaf.
    pub fn new() -> Self {
        Self { pairs: vec![[EMPTY; 2]; 1], root: EMPTY }
    }

    /// Makes room for leaves `0 … count - 1`, keeping what is there. Allocates.
    pub fn grow(&mut self, count: usize) {
        let leaves = count.clamp(1, MAX_LEAVES).next_power_of_two();
        let old = self.pairs.len();
        if leaves <= old {
            return;
        }
        let kept: Vec<u64> = (0..old).map(|leaf| self.get(leaf)).collect();
        self.pairs = vec![[EMPTY; 2]; leaves];
        self.root = EMPTY;
        for (leaf, held) in kept.into_iter().enumerate() {
            self.set_at(leaf, held);
        }
    }

    /// The smallest word, [`EMPTY`] when all leaves are.
    #[inline]
    pub const fn least(&self) -> u64 {
        self.root
    }

    /// Takes the smallest word out and returns it.
    #[inline]
    pub fn take_least(&mut self) -> u64 {
        let least = self.least();
        self.clear(leaf_of(least));
        least
    }

    /// What a leaf holds.
    fn get(&self, leaf: usize) -> u64 {
        let node = self.pairs.len() + leaf;
        if node == 1 { self.root } else { self.pairs.get(node >> 1).map_or(EMPTY, |pair| pair[node & 1]) }
    }

    /// Puts `word` into its leaf.
    #[inline]
    pub fn put(&mut self, word: u64) {
        self.set_at(usize::from(leaf_of(word)), word);
    }

    /// Empties a leaf.
    #[inline]
    pub fn clear(&mut self, leaf: u16) {
        self.set_at(usize::from(leaf), EMPTY);
    }

    /// Changes one leaf; one that does not exist is ignored.
    #[inline]
    fn set_at(&mut self, leaf: usize, mut word: u64) {
        let mut node = self.pairs.len() + leaf;
        while node != 1 {
            let side = node & 1;
            node >>= 1;
            let Some(pair) = self.pairs.get_mut(node) else { return };
            if pair[side] == word {
                return;
            }
            pair[side] = word;
            word = pair[0].min(pair[1]);
        }
        self.root = word;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_ordered_by_time_and_then_by_leaf() {
        assert!(word(5 << 10, 9) < word(6 << 10, 0));
        assert!(word(5 << 10, 8) < word(5 << 10, 9));
        assert!(!is_before(word(5 << 10, 8), word(5 << 10, 9)));
        assert!(is_before(word(5 << 10, 9), word(6 << 10, 0)));
        assert!(is_before(word(u64::MAX >> 1, 3), EMPTY));
        assert!(!is_before(EMPTY, EMPTY));
        assert_eq!(leaf_of(word(u64::MAX >> 1, 1_023)), 1_023);
    }

    #[test]
    fn a_leaf_outside_the_tree_changes_nothing() {
        let mut tree = Tree::new();
        tree.put(word(7, 0));
        tree.put(word(3, 5));
        assert_eq!(tree.least(), word(7, 0));
    }

    proptest! {
        #[test]
        fn the_least_word_is_that_of_a_plain_search(
            steps in proptest::collection::vec((0u16..40, proptest::option::of(0u64..50 << 10)), 1..200),
            first in 1usize..40,
        ) {
            let mut tree = Tree::new();
            tree.grow(first);
            let mut model = vec![EMPTY; 40];
            for (leaf, key) in steps {
                if usize::from(leaf) >= tree.pairs.len() {
                    tree.grow(usize::from(leaf) + 1);
                }
                let held = key.map_or(EMPTY, |key| word(key, leaf));
                if held == EMPTY { tree.clear(leaf) } else { tree.put(held) }
                model[usize::from(leaf)] = held;
                prop_assert_eq!(tree.least(), model.iter().copied().min().unwrap());
            }
        }
    }
}
