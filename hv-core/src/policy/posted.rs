//! Interrupts that processors post to a vCPU, until the processor that holds it takes them.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// One bit per vector. Any processor posts; only the processor that holds the vCPU takes.
#[derive(Debug, Default)]
pub struct Posted([AtomicU64; 4]);

impl Posted {
    fn word(&self, vector: u8) -> &AtomicU64 {
        &self.0[usize::from(vector >> 6)]
    }

    /// Posts an interrupt; a full barrier.
    pub fn post(&self, vector: u8) {
        self.word(vector).fetch_or(1 << (vector & 63), SeqCst);
    }

    /// Whether an interrupt with this vector is posted and not taken yet.
    pub fn has(&self, vector: u8) -> bool {
        self.word(vector).load(Relaxed) >> (vector & 63) & 1 != 0
    }

    /// The highest posted vector.
    pub fn highest(&self) -> Option<u8> {
        (0_u8..4).rev().zip(self.0.iter().rev()).find_map(|(quarter, word)| {
            let highest = word.load(Relaxed).checked_ilog2()?;
            Some(quarter << 6 | u8::try_from(highest).ok()?)
        })
    }

    /// Takes the posted interrupt with this vector.
    pub fn take(&self, vector: u8) {
        self.word(vector).fetch_and(!(1 << (vector & 63)), SeqCst);
    }

    /// Takes all posted interrupts, as words of 64 vectors, each with the number of its first vector.
    pub fn take_all(&self) -> impl Iterator<Item = (u8, u64)> {
        let take = |word: &AtomicU64| if word.load(Relaxed) == 0 { 0 } else { word.swap(0, SeqCst) };
        [0, 64, 128, 192].into_iter().zip(self.0.iter().map(take))
    }

    /// Drops all posted interrupts.
    pub fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_is_found_and_what_is_taken_is_posted_no_more() {
        let posted = Posted::default();
        [0x31, 0xff, 0x80].into_iter().for_each(|vector| posted.post(vector));
        assert_eq!((posted.highest(), posted.has(0x80), posted.has(0x81)), (Some(0xff), true, false));
        posted.take(0xff);
        assert_eq!(posted.highest(), Some(0x80));
        assert!(posted.take_all().eq([(0, 1 << 0x31), (64, 0), (128, 1), (192, 0)]));
        assert_eq!(posted.highest(), None);
    }
}
