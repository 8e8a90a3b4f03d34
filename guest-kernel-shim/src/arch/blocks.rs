//! Blocks of RAM that the kernel claims once, gives back to the hypervisor, and takes again.
//!
//! The kernel claims blocks from RAM above its image and below its module. Once it gave a block back, the memory is
//! gone, so [`Absent`] has no words to read.
#![expect(unsafe_code, reason = "memory by its address, and a call that takes memory away")]

use super::boot::Boot;
use super::call::{Harmless, call, harmless};
use core::sync::atomic::{AtomicU64, Ordering};
use pv_abi::call::{Call, Code, Info, MEMORY_BLOCK_BYTES, MemoryOp};

/// How many blocks [`CLAIMED`] can track: 128 MiB.
const MAX_BLOCKS: u64 = 64;

/// One bit for each claimed block, whether present or absent.
static CLAIMED: AtomicU64 = AtomicU64::new(0);

/// Blocks of RAM that this kernel uses for nothing else.
#[derive(Debug)]
pub struct Blocks {
    first: u64,
    count: u64,
}

/// Blocks that this kernel has claimed and that have no memory behind them.
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
    /// Claims `count` blocks. Returns `None` unless they lie in RAM outside the image and the module, and are
    /// unclaimed.
    pub fn claim(boot: &Boot, first: u64, count: u64) -> Option<Self> {
        let start = first.checked_mul(MEMORY_BLOCK_BYTES)?;
        let end = first.checked_add(count)?.checked_mul(MEMORY_BLOCK_BYTES)?;
        let below_module = boot.module().is_none_or(|module| end <= module.as_ptr().addr() as u64);
        let in_ram = boot.regions().iter().any(|region| {
            region.is_ram() && region.start <= start && end <= region.start.saturating_add(region.bytes)
        });
        let free = start >= image_end() && below_module && in_ram;
        (free && claim(first, count)).then_some(Self { first, count })
    }

    /// How many blocks these are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The words in the blocks.
    pub fn words(&self) -> &[AtomicU64] {
        let (start, len) = (self.first * MEMORY_BLOCK_BYTES, self.count * MEMORY_BLOCK_BYTES);
        let (Ok(at), Ok(words)) = (usize::try_from(start), usize::try_from(len / 8)) else { return &[] };
        // SAFETY: each block is claimed once, from RAM above the image and below the module, so no other Rust object
        // overlaps it. RAM below 4 GiB is mapped at its own address, and stays until `give`, which this borrow
        // excludes.
        unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(at), words) }
    }

    /// Gives the blocks back. Other vCPUs of this guest may still have to flush them from their TLBs; until then the
    /// hypervisor gives them to nobody else.
    pub fn give(self) -> Result<Absent, (Self, Code)> {
        let start = self.first * MEMORY_BLOCK_BYTES;
        // SAFETY: `self` is consumed, so no borrow of its words is left, and no other Rust object lies in the blocks.
        match unsafe { call(Call::MEMORY, [MemoryOp::GIVE.0, start, self.count]) }.0 {
            Code::OK => Ok(Absent { first: self.first, count: self.count }),
            refused => Err((self, refused)),
        }
    }
}

impl Absent {
    /// Claims the blocks between the end of RAM and the end of what the hypervisor lets this guest have.
    pub fn beyond(boot: &Boot) -> Option<Self> {
        let ends = boot.regions().iter().filter(|region| region.is_ram());
        let first =
            ends.map(|region| region.start.saturating_add(region.bytes)).max()?.div_ceil(MEMORY_BLOCK_BYTES);
        let count = checked(harmless(Harmless::INFO, [Info::MEMORY_BLOCKS.0])).ok()?.checked_sub(first)?;
        claim(first, count).then_some(Self { first, count })
    }

    /// How many blocks these are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Takes the first block; its memory is zero. Returns [`Code::AGAIN`] when the machine has no free block.
    pub fn take(&mut self) -> Result<Blocks, Code> {
        if self.count == 0 {
            return Err(Code::NOT_THERE);
        }
        let at = self.first * MEMORY_BLOCK_BYTES;
        while checked(harmless(Harmless::MEMORY, [MemoryOp::TAKE.0, at]))? > 0 {}
        let taken = Blocks { first: self.first, count: 1 };
        self.first += 1;
        self.count -= 1;
        Ok(taken)
    }

    /// Takes all blocks; calls `wait` whenever the machine has no free block.
    pub(crate) fn take_each(mut self, wait: impl Fn()) -> Result<Blocks, Code> {
        let (first, count) = (self.first, self.count);
        while self.count > 0 {
            match self.take() {
                Ok(_) => {}
                Err(Code::AGAIN) => wait(),
                Err(refused) => return Err(refused),
            }
        }
        Ok(Blocks { first, count })
    }
}

/// The value of a call that succeeded, or the code of one that was refused.
fn checked((code, value): (Code, u64)) -> Result<u64, Code> {
    if code == Code::OK { Ok(value) } else { Err(code) }
}

/// The end of the kernel's image, its zeroed data and its stacks included.
#[cfg(target_os = "none")]
fn image_end() -> u64 {
    unsafe extern "C" {
        static shim_image_end: u8;
    }
    (&raw const shim_image_end).addr() as u64
}

/// On a host there is no image, so no block is free.
#[cfg(not(target_os = "none"))]
fn image_end() -> u64 {
    u64::MAX
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
