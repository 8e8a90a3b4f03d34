//! Blocks of a guest's memory that are on their way: to it, or away from it.

use crate::base::hardware::GuestRam;
use alloc::vec::Vec;
use pv_abi::call::MEMORY_MAX_BLOCKS;

/// Up to this many lent blocks stay reserved for their lender; otherwise a booting guest and a borrower could deadlock on each
/// other's blocks.
const KEPT: usize = 16;

#[expect(clippy::cast_possible_truncation, reason = "a batch is small")]
const MOST_AT_ONCE: usize = MEMORY_MAX_BLOCKS as usize;

/// A guest's blocks that are on their way.
pub struct Transit<B> {
    /// Given back, and perhaps still reached by somebody.
    pub quarantine: heapless::Vec<B, MOST_AT_ONCE>,
    /// Whether its vCPUs were told of that batch.
    pub told: bool,
    /// Being cleared for the guest, so far.
    pub coming: Option<(B, u64)>,
    /// How many blocks its balloon has reported that have not come back.
    pub lent: usize,
    /// The first of those blocks, which no other guest gets.
    pub reserve: heapless::Vec<B, KEPT>,
}

impl<B> Default for Transit<B> {
    fn default() -> Self {
        let (quarantine, reserve) = (heapless::Vec::new(), heapless::Vec::new());
        Self { quarantine, told: false, coming: None, lent: 0, reserve }
    }
}

impl<B> Transit<B> {
    /// A free block for the guest. Its reserve is touched last, unless that is all that it has lent.
    pub fn obtain(&mut self, pool: &mut Vec<B>) -> Option<B> {
        let block = if self.lent > self.reserve.len() { pool.pop() } else { None };
        block.or_else(|| self.reserve.pop()).or_else(|| pool.pop())
    }

    /// A block comes to the guest, or back to it.
    pub fn insert<R: GuestRam<Block = B>>(&mut self, ram: &R, n: u64, block: B) -> Result<(), B> {
        ram.insert_block(n, block)?;
        self.lent = self.lent.saturating_sub(1);
        Ok(())
    }

    /// The quarantine is over: the reserve is filled, and the rest is anybody's.
    pub fn free(&mut self, pool: &mut Vec<B>) {
        self.told = false;
        for block in core::mem::take(&mut self.quarantine) {
            let reserved = if self.lent > self.reserve.len() { self.reserve.push(block) } else { Err(block) };
            pool.extend(reserved.err());
        }
    }
}
