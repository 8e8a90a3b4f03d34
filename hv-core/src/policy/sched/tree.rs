//! A winner tree: the smallest word of a fixed set of leaves, kept while leaves change one at a time.
//!
//! Flat, without pointers and without a map from item to position: leaf `i` is node `leaves + i`, node `n` has the
//! children `4n … 4n + 3`, the root is node 1. A change walks from its leaf towards the root, three comparisons a
//! level, and stops where nothing changes: at most log4(leaves) steps, mostly one when a late word is put in.
//!
//! The array has room for every leaf there may be, and an index is masked to it: no step checks its bounds.

use alloc::boxed::Box;
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

/// The tree. `NODES` is twice the most leaves it may have, a power of four.
#[derive(Clone, Debug)]
pub struct Tree<const NODES: usize> {
    /// By node, but for the root.
    nodes: Box<[u64; NODES]>,
    /// Leaves there are, a power of four.
    leaves: usize,
    /// Node 1.
    root: u64,
}

impl<const NODES: usize> Tree<NODES> {
    /// A tree of one empty leaf.
    pub fn new() -> Self {
        const { assert!(NODES.is_power_of_two() && NODES.ilog2() % 2 == 1 && NODES <= 2 * MAX_LEAVES) };
        // By way of a vector, so that the array is never on the stack.
        let nodes = vec![EMPTY; NODES].into_boxed_slice().try_into();
        Self { nodes: nodes.unwrap_or_else(|_| Box::new([EMPTY; NODES])), leaves: 1, root: EMPTY }
    }

    /// Makes room for leaves `0 … count - 1`, keeping what is there.
    pub fn grow(&mut self, count: usize) {
        let levels = count.clamp(1, NODES / 2).next_power_of_two().ilog2().div_ceil(2);
        let leaves = 1 << (2 * levels);
        if leaves <= self.leaves {
            return;
        }
        let kept: Vec<u64> = (0..self.leaves).map(|leaf| self.get(leaf)).collect();
        self.nodes.fill(EMPTY);
        self.leaves = leaves;
        self.root = EMPTY;
        for (leaf, held) in kept.into_iter().enumerate() {
            self.set_at(leaf, held);
        }
    }

    /// Whether there is such a leaf.
    pub const fn has_leaf(&self, leaf: usize) -> bool {
        leaf < self.leaves
    }

    /// The smallest word, [`EMPTY`] when all leaves are.
    #[inline]
    pub const fn least(&self) -> u64 {
        self.root
    }

    /// What a leaf holds.
    fn get(&self, leaf: usize) -> u64 {
        let node = self.leaves + leaf;
        if node == 1 { self.root } else { self.nodes[node & (NODES - 1)] }
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
        if leaf >= self.leaves {
            return;
        }
        let mut node = self.node(leaf);
        while node > 1 {
            let held = &mut self.nodes[node & (NODES - 1)];
            if *held == word {
                return;
            }
            *held = word;
            word = self.least_beside(node);
            node >>= 2;
        }
        self.root = word;
    }

    /// The node of a leaf. The mask, which changes nothing, shows the compiler that no step leaves the array.
    #[inline]
    const fn node(&self, leaf: usize) -> usize {
        (self.leaves + leaf) & (NODES - 1)
    }

    /// The least of a node and its siblings.
    #[inline(always)]
    fn least_beside(&self, node: usize) -> u64 {
        let (groups, _) = self.nodes.as_chunks::<4>();
        let [a, b, c, d] = groups[(node & (NODES - 1)) >> 2];
        a.min(b).min(c).min(d)
    }

    /// Takes the smallest word out; there is one.
    #[inline(always)]
    pub fn take_least(&mut self) {
        let mut node = self.node(usize::from(leaf_of(self.root)));
        let mut word = EMPTY;
        // The smallest word is in every node on its way, so that each of them changes.
        while node > 1 {
            self.nodes[node & (NODES - 1)] = word;
            word = self.least_beside(node);
            node >>= 2;
        }
        self.root = word;
    }

    /// Takes the smallest word out, there is one, and puts `word` into its leaf, which is another.
    #[inline(always)]
    pub fn replace_least(&mut self, word: u64) {
        if (word ^ self.root) & LEAF < 4 {
            // Siblings: one walk does both.
            self.nodes[self.node(usize::from(leaf_of(word)))] = word;
            self.take_least();
        } else {
            self.take_least();
            self.put(word);
        }
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
        let mut tree = Tree::<8>::new();
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
            let mut tree = Tree::<128>::new();
            tree.grow(first);
            let mut model = vec![EMPTY; 40];
            for (leaf, key) in steps {
                if usize::from(leaf) >= tree.leaves {
                    tree.grow(usize::from(leaf) + 1);
                }
                let held = key.map_or(EMPTY, |key| word(key, leaf));
                if held == EMPTY { tree.clear(leaf) } else { tree.put(held) }
                model[usize::from(leaf)] = held;
                prop_assert_eq!(tree.least(), model.iter().copied().min().unwrap());
            }
        }

        #[test]
        fn the_least_word_is_taken_and_replaced_as_if_one_after_the_other(
            held in proptest::collection::vec(0u64..50, 2..40),
            steps in proptest::collection::vec((0u16..40, 0u64..50), 1..100),
        ) {
            let mut tree = Tree::<128>::new();
            tree.grow(held.len());
            for (leaf, key) in (0..).zip(&held) {
                tree.put(word(key << 10, leaf));
            }
            let mut plain = tree.clone();
            for (leaf, key) in steps {
                let least = tree.least();
                if least == EMPTY {
                    break;
                }
                let put = word(key << 10, leaf);
                plain.clear(leaf_of(least));
                if leaf == leaf_of(least) || usize::from(leaf) >= held.len() {
                    tree.take_least();
                } else {
                    tree.replace_least(put);
                    plain.put(put);
                }
                prop_assert_eq!(tree.least(), plain.least());
                prop_assert_eq!(&tree.nodes, &plain.nodes);
            }
        }
    }
}
