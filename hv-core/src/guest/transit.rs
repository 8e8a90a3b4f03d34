//! Blocks of memory in transit: those that a guest gives back, and those that come to it.

use crate::base::hardware::GuestRam;
use alloc::vec::Vec;
use pv_abi::call::MEMORY_MAX_BLOCKS;

/// Up to this many lent blocks stay reserved for their lender; otherwise a booting guest and a borrower could deadlock on each
/// other's blocks.
const KEPT: usize = 16;

#[expect(clippy::cast_possible_truncation, reason = "a batch is small")]
const MOST_AT_ONCE: usize = MEMORY_MAX_BLOCKS as usize;

/// A guest's blocks in transit.
pub struct Transit<B> {
    /// Blocks that the guest has given back, and that some vCPU may still reach.
    pub quarantine: heapless::Vec<B, MOST_AT_ONCE>,
    /// Whether the guest's vCPUs were told to flush their translations of the quarantined blocks.
    pub told: bool,
    /// A block that is being cleared for the guest, and the number of its bytes that are cleared.
    pub coming: Option<(B, u64)>,
    /// Number of blocks that the guest's balloon has reported and that have not come back.
    pub lent: usize,
    /// The first of the lent blocks; no other guest gets these.
    pub reserve: heapless::Vec<B, KEPT>,
}

impl<B> Default for Transit<B> {
    fn default() -> Self {
        let (quarantine, reserve) = (heapless::Vec::new(), heapless::Vec::new());
        Self { quarantine, told: false, coming: None, lent: 0, reserve }
    }
}

impl<B> Transit<B> {
    /// Takes a free block for the guest: from `pool` first, or from its reserve first if all that it has lent is in the reserve.
    pub fn obtain(&mut self, pool: &mut Vec<B>) -> Option<B> {
        let block = if self.lent > self.reserve.len() { pool.pop() } else { None };
        block.or_else(|| self.reserve.pop()).or_else(|| pool.pop())
    }

    /// Inserts a block at number `n` of the guest's memory, whether it is new to the guest or returns to it.
    pub fn insert<R: GuestRam<Block = B>>(&mut self, ram: &R, n: u64, block: B) -> Result<(), B> {
        ram.insert_block(n, block)?;
        self.lent = self.lent.saturating_sub(1);
        Ok(())
    }

    /// Ends the quarantine: its blocks fill the reserve first, and the rest go to `pool` for any guest.
    pub fn free(&mut self, pool: &mut Vec<B>) {
        self.told = false;
        for block in core::mem::take(&mut self.quarantine) {
            let reserved = if self.lent > self.reserve.len() { self.reserve.push(block) } else { Err(block) };
            pool.extend(reserved.err());
        }
    }
}
