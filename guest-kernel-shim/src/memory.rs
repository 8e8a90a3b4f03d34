//! Memory that the kernel does without: blocks of 2 MiB given back to the hypervisor, and taken again.
//!
//! Blocks are claimed once, from RAM above the kernel's image and below its module. A block that is given back is a hole: the
//! type of what is not there has no words.

use crate::arch::blocks;
use crate::boot::Boot;
use crate::call::{self, Code, Info, Refused};
use core::sync::atomic::{AtomicU64, Ordering};
use pv_abi::call::MEMORY_BLOCK_BYTES;

/// Blocks that can be told apart: 128 MiB.
const MAX_BLOCKS: u64 = 64;

/// A bit a block that was claimed, there or not.
static CLAIMED: AtomicU64 = AtomicU64::new(0);

/// Blocks of RAM that this kernel uses for nothing else.
#[derive(Debug)]
pub struct Blocks {
    first: u64,
    count: u64,
}

/// Blocks that are not there.
#[derive(Debug)]
pub struct Absent {
    first: u64,
    count: u64,
}

fn claim(first: u64, count: u64) -> bool {
    let Some(end) = first.checked_add(count).filter(|end| count > 0 && *end <= MAX_BLOCKS) else {
        return false;
    };
    let mask = (u64::MAX >> (MAX_BLOCKS - end)) & !((1 << first) - 1);
    CLAIMED
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| (held & mask == 0).then_some(held | mask))
        .is_ok()
}

impl Blocks {
    /// Claims so many blocks; `None` unless they lie in RAM that neither the image nor a module uses, and nobody has them.
    pub fn claim(boot: &Boot, first: u64, count: u64) -> Option<Self> {
        let start = first.checked_mul(MEMORY_BLOCK_BYTES)?;
        let end = first.checked_add(count)?.checked_mul(MEMORY_BLOCK_BYTES)?;
        let below_module = boot.module().is_none_or(|module| end <= module.as_ptr().addr() as u64);
        let in_ram = boot.regions().iter().any(|region| {
            region.is_ram() && region.start <= start && end <= region.start.saturating_add(region.bytes)
        });
        let free = start >= blocks::image_end() && below_module && in_ram;
        (free && claim(first, count)).then_some(Self { first, count })
    }

    /// How many.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// What is in them.
    pub fn words(&self) -> &[AtomicU64] {
        blocks::words(self)
    }

    /// First byte and length.
    pub(crate) const fn range(&self) -> (u64, u64) {
        (self.first * MEMORY_BLOCK_BYTES, self.count * MEMORY_BLOCK_BYTES)
    }

    /// Gives them back. Other vCPUs of this kernel may have yet to let go of them; nobody else gets them before.
    pub fn give(self) -> Result<Absent, (Self, Refused)> {
        match blocks::give(&self) {
            Ok(_) => Ok(Absent { first: self.first, count: self.count }),
            Err(refused) => Err((self, refused)),
        }
    }
}

impl Absent {
    /// Claims what may be there and is not, from the end of RAM on.
    pub fn beyond(boot: &Boot) -> Option<Self> {
        let ends = boot.regions().iter().filter(|region| region.is_ram());
        let first =
            ends.map(|region| region.start.saturating_add(region.bytes)).max()?.div_ceil(MEMORY_BLOCK_BYTES);
        let count = call::info(Info::MEMORY_BLOCKS).ok()?.checked_sub(first)?;
        claim(first, count).then_some(Self { first, count })
    }

    /// How many.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Takes the first of them, cleared. [`Code::AGAIN`] when the machine has none to give.
    pub fn take(&mut self) -> Result<Blocks, Refused> {
        if self.count == 0 {
            return Err(Code::NOT_THERE);
        }
        while call::memory_take(self.first * MEMORY_BLOCK_BYTES)? > 0 {}
        let taken = Blocks { first: self.first, count: 1 };
        self.first += 1;
        self.count -= 1;
        Ok(taken)
    }

    /// Takes all of them, waiting where the machine has none to give at once.
    pub fn take_all(mut self) -> Result<Blocks, Refused> {
        let (first, count) = (self.first, self.count);
        while self.count > 0 {
            match self.take() {
                Ok(_) => {}
                Err(Code::AGAIN) => crate::idle::yield_if_wanted(),
                Err(refused) => return Err(refused),
            }
        }
        Ok(Blocks { first, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_claimed_once_and_inside() {
        assert!(claim(3, 4));
        assert!(!claim(6, 2) && !claim(0, 4) && !claim(3, 1));
        assert!(claim(7, 57) && claim(0, 3));
        assert!(!claim(63, 2) && !claim(64, 1) && !claim(u64::MAX, 2) && !claim(5, 0));
    }
}
