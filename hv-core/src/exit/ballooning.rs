//! Memory that guests give back and take: MEMORY (docs/src/abi.md), a balloon's reports, and the restoring of blocks at a
//! guest's end and restart.
//!
//! Each block is in a guest's memory, in a guest's quarantine, in a guest's reserve, in the pool, or being cleared for one
//! guest.

use crate::base::addr::{GuestPhys, LARGE_PAGE_BYTES};
use crate::base::hardware::{GuestBlocks, GuestBytes, GuestRam};
use crate::device::virtio::ServeProgress;
use crate::exit::cpu::CpuContext;
use crate::guest::guest::Guest;
use crate::guest::platform::Platform;
use crate::guest::system::System;
use crate::guest::transit::Transit;
use crate::policy::mm::shootdown::Told;
use crate::policy::presence::Attention;
use crate::policy::vcpu_shared::VcpuShared;
use pv_abi::call::Code;

/// Number of bytes that one call clears: some microseconds' work.
const CLEARED_AT_ONCE: u64 = 64 << 10;

/// MEMORY(GIVE): takes `count` blocks from `first` on away from the guest, and has its vCPUs flush their translations. The
/// blocks are free when all vCPUs have. Returns the number of vCPUs that have not yet.
pub fn give<P: Platform>(
    guest: &'static Guest<P::Ram>,
    giver: &'static VcpuShared,
    core: &mut CpuContext<P>,
    (first, count): (u64, u64),
) -> (Code, u64) {
    let mut transit = guest.memory.transit.lock();
    if !transit.quarantine.is_empty() {
        return (Code::AGAIN, 0);
    }
    let blocks = first..first.saturating_add(count);
    if !blocks.clone().all(|n| guest.ram.has_block(n)) {
        return (Code::BAD_ADDRESS, 0);
    }
    transit.quarantine.extend(blocks.filter_map(|n| guest.ram.remove_block(n)));
    tell(guest, giver, core, &mut transit);
    (Code::OK, u64::from(guest.memory.shootdown.remaining()))
}

/// Has a guest's vCPUs flush their translations of the blocks in its quarantine.
fn tell<P: Platform>(
    guest: &'static Guest<P::Ram>,
    giver: &'static VcpuShared,
    core: &mut CpuContext<P>,
    transit: &mut Transit<<P::Ram as GuestBlocks>::Block>,
) {
    transit.told = true;
    guest.memory.shootdown.begin(guest.vcpu_count());
    for other in guest.vcpus.iter().filter(|other| other.index() != giver.index()) {
        let last = match other.tell_to_flush(&guest.memory.shootdown) {
            Told::Post => {
                core.post(other, guest.id);
                false
            }
            Told::Later => guest.memory.shootdown.let_go(other.index()),
        };
        debug_assert!(!last, "the giver has not let go");
    }
    // The giver is in this very exit; it flushes before it enters guest mode again.
    giver.request_attention(Attention::FLUSH);
    if guest.memory.shootdown.let_go(giver.index()) {
        transit.free(&mut core.system.pool.lock());
    }
}

/// A guest's balloon reports that the guest does not use block `n` now: the block goes to the quarantine.
pub fn report<R: GuestRam>(guest: &Guest<R>, n: u64) {
    let mut transit = guest.memory.transit.lock();
    if !transit.told
        && !transit.quarantine.is_full()
        && let Some(block) = guest.ram.remove_block(n)
    {
        transit.lent += 1;
        let _ = transit.quarantine.push(block); // there was room
    }
}

/// Whether processors may still reach the reported blocks ([`ServeProgress::More`]); once they cannot, the blocks are free.
pub fn shoot_down<P: Platform>(
    guest: &'static Guest<P::Ram>,
    giver: &'static VcpuShared,
    core: &mut CpuContext<P>,
) -> ServeProgress {
    let mut transit = guest.memory.transit.lock();
    if !transit.quarantine.is_empty() && !transit.told {
        tell(guest, giver, core, &mut transit);
    }
    if transit.quarantine.is_empty() { ServeProgress::Done } else { ServeProgress::More }
}

/// Result of an access to memory that a balloon may have reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Backing {
    /// The balloon did not report it: the access has no memory to reach.
    Resident,
    /// The next part of the block was cleared, or the whole block is present: the vCPU retries the access.
    Restoring,
    /// No block is free for it now, and the vCPU that made the access waits.
    Unavailable,
}

/// Brings back memory that a balloon has reported, in parts: each call clears 64 KiB.
pub fn bring_back<P: Platform>(
    guest: &'static Guest<P::Ram>,
    server: &'static VcpuShared,
    core: &mut CpuContext<P>,
    at: GuestPhys,
) -> Backing {
    let n = at.raw() / LARGE_PAGE_BYTES;
    if !guest.config.devices.balloon || n >= guest.ram.len_bytes() / LARGE_PAGE_BYTES {
        return Backing::Resident;
    }
    match take(guest, n, core.system) {
        (Code::AGAIN, _) => {
            // Blocks of the guest may still be in its quarantine, and the device that would move them on may be the one that
            // waits.
            let _ = shoot_down(guest, server, core);
            Backing::Unavailable
        }
        // The block is present, or more of it is to be cleared, or another vCPU has brought it back.
        _ => Backing::Restoring,
    }
}

/// MEMORY(QUERY): the number of vCPUs that have not let go of the last batch; 0 only when the batch is free.
pub fn given<R: GuestRam>(guest: &Guest<R>) -> u64 {
    let is_gone = guest.memory.transit.lock().quarantine.is_empty();
    if is_gone { 0 } else { u64::from(guest.memory.shootdown.remaining().max(1)) }
}

/// Called when a vCPU has flushed or stopped: if no other vCPU is left to do so, the quarantined blocks are free.
pub fn let_go<R: GuestRam>(guest: &Guest<R>, vcpu: &VcpuShared, system: &System<R>) {
    if guest.memory.shootdown.let_go(vcpu.index()) {
        guest.memory.transit.lock().free(&mut system.pool.lock());
    }
}

/// MEMORY(TAKE): takes a free block, cleared in parts by repeated calls. Returns the number of bytes left to clear.
pub fn take<R: GuestRam>(guest: &Guest<R>, n: u64, system: &System<R>) -> (Code, u64) {
    if n >= guest.ram.block_count() {
        return (Code::BAD_ADDRESS, 0);
    }
    let mut transit = guest.memory.transit.lock();
    if guest.ram.has_block(n) {
        return (Code::BAD_ADDRESS, 0);
    }
    let coming = transit.coming.take();
    let taken = coming.or_else(|| Some((transit.obtain(&mut system.pool.lock())?, 0)));
    let Some((mut block, cleared)) = taken else { return (Code::AGAIN, 0) };
    R::clear_block(&mut block, cleared, CLEARED_AT_ONCE);
    let left = LARGE_PAGE_BYTES.saturating_sub(cleared + CLEARED_AT_ONCE);
    if left > 0 {
        transit.coming = Some((block, cleared + CLEARED_AT_ONCE));
    } else if let Err(block) = transit.insert(&guest.ram, n, block) {
        system.pool.lock().push(block);
    }
    (Code::OK, left)
}

/// Gives a guest, all of whose vCPUs are stopped, exactly its first `count` blocks: those that it begins with, or none when
/// it has ended. Where other guests use some of them, a guest with a balloon gets those as it begins
/// ([`Populating::missing_block`](crate::guest::populate::Populating::missing_block)); for a guest without one the result is
/// false.
pub fn restore_blocks<R: GuestRam>(guest: &Guest<R>, system: &System<R>, count: u64) -> bool {
    let mut transit = guest.memory.transit.lock();
    let mut pool = system.pool.lock();
    transit.free(&mut pool);
    pool.extend(transit.coming.take().map(|(block, _)| block));
    pool.extend((count..guest.ram.block_count()).filter_map(|n| guest.ram.remove_block(n)));
    let restored = (0..count).filter(|n| !guest.ram.has_block(*n)).all(|n| {
        let block = transit.obtain(&mut pool);
        block.is_some_and(|block| transit.insert(&guest.ram, n, block).is_ok())
    });
    if restored {
        transit.lent = 0;
        pool.extend(core::mem::take(&mut transit.reserve));
    }
    restored || guest.config.devices.balloon
}
