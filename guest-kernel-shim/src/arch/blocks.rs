//! Blocks of RAM as words, and giving them back.
#![expect(unsafe_code, reason = "memory by its address, and a call that takes memory away")]

use super::call::call;
use crate::call::Refused;
use crate::memory::Blocks;
use core::sync::atomic::AtomicU64;
use pv_abi::call::{Call, Code, MEMORY_BLOCK_BYTES, MemoryOp};

/// Where the kernel's image ends, with its zeroed data and its stacks.
#[cfg(target_os = "none")]
pub(crate) fn image_end() -> u64 {
    unsafe extern "C" {
        static shim_image_end: u8;
    }
    (&raw const shim_image_end).addr() as u64
}

/// No kernel runs here.
#[cfg(not(target_os = "none"))]
pub(crate) fn image_end() -> u64 {
    u64::MAX
}

/// The words of some blocks.
pub(crate) fn words(blocks: &Blocks) -> &[AtomicU64] {
    let (start, len) = blocks.range();
    let (Ok(at), Ok(words)) = (usize::try_from(start), usize::try_from(len / 8)) else { return &[] };
    // SAFETY: `Blocks` are claimed once, from RAM above the image and below the module, so no other object is there; RAM below
    // 4 GiB is mapped onto itself, and it is there until `give`, which the borrow keeps from being called.
    unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(at), words) }
}

/// Gives the blocks back; answers how many vCPUs have yet to let go of them. On success they are gone.
pub(crate) fn give(blocks: &Blocks) -> Result<u64, Refused> {
    let (start, len) = blocks.range();
    // SAFETY: the caller forgets the blocks on success, and nothing else is in them.
    let (code, value) = unsafe { call(Call::MEMORY, [MemoryOp::GIVE.0, start, len / MEMORY_BLOCK_BYTES]) };
    if code == Code::OK { Ok(value) } else { Err(code) }
}
