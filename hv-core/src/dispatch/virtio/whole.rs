//! A guest's memory as its devices see it: what its balloon has reported comes back when it is touched.
//!
//! A driver may hand out a buffer that nobody has touched since it was reported.

use crate::base::addr::{GuestPhys, HostPhys, OutsideMemory};
use crate::base::hardware::GuestRam;
use crate::dispatch::guest::Guest;
use crate::dispatch::memory::{self, Lent};
use crate::dispatch::system::System;
use core::sync::atomic::Ordering::Relaxed;

/// Blocks that one access may lie in: a device copies less than a block at once.
const MOST_BLOCKS: usize = 2;

pub(super) struct Whole<R: GuestRam + 'static> {
    pub guest: &'static Guest<R>,
    pub system: &'static System<R>,
}

impl<R: GuestRam> Whole<R> {
    /// Whether what was reported could come back now: if not, the guest's devices wait. They do not while a batch is on its way to
    /// the pool, since it is they who send it on.
    pub fn can_be_had(&self) -> bool {
        let lent = usize::try_from(self.guest.lent.load(Relaxed)).unwrap_or(usize::MAX);
        lent == 0
            || self.system.pool.lock().len() >= lent.min(MOST_BLOCKS)
            || memory::has_quarantine(self.guest)
    }

    /// Tries, and again with what is missing brought back: a block in one piece, which is rare.
    fn with(&self, mut access: impl FnMut() -> Result<(), OutsideMemory>) -> Result<(), OutsideMemory> {
        for _ in 0..MOST_BLOCKS {
            let Err(OutsideMemory(at)) = access() else { return Ok(()) };
            loop {
                match memory::bring_back(self.guest, at, self.system) {
                    Lent::Comes if self.is_there(at) => break,
                    Lent::Comes => {}
                    Lent::Not | Lent::Waits => return Err(OutsideMemory(at)),
                }
            }
        }
        access()
    }

    fn is_there(&self, at: GuestPhys) -> bool {
        self.guest.ram.has_block(at.raw() / crate::base::addr::LARGE_PAGE_BYTES)
    }
}

impl<R: GuestRam> GuestRam for Whole<R> {
    type Block = R::Block;

    fn len_bytes(&self) -> u64 {
        self.guest.ram.len_bytes()
    }

    fn block_count(&self) -> u64 {
        self.guest.ram.block_count()
    }

    fn has_block(&self, n: u64) -> bool {
        self.guest.ram.has_block(n)
    }

    fn remove_block(&self, n: u64) -> Option<R::Block> {
        self.guest.ram.remove_block(n)
    }

    fn insert_block(&self, n: u64, block: R::Block) -> Result<(), R::Block> {
        self.guest.ram.insert_block(n, block)
    }

    fn clear_block(block: &mut R::Block, offset: u64, len_bytes: u64) {
        R::clear_block(block, offset, len_bytes);
    }

    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<(), OutsideMemory> {
        self.with(|| self.guest.ram.read(at, into))
    }

    fn write(&self, at: GuestPhys, from: &[u8]) -> Result<(), OutsideMemory> {
        self.with(|| self.guest.ram.write(at, from))
    }

    fn exchange(&self, at: GuestPhys, byte: u8) -> Result<u8, OutsideMemory> {
        self.guest.ram.exchange(at, byte)
    }

    fn clear(&self, at: GuestPhys, len_bytes: u64) {
        self.guest.ram.clear(at, len_bytes);
    }

    fn clear_window(&self) {
        self.guest.ram.clear_window();
    }

    fn window_is_free(&self, page: u64) -> bool {
        self.guest.ram.window_is_free(page)
    }

    fn place_in_window(&self, page: u64, frame: HostPhys, writable: bool) {
        self.guest.ram.place_in_window(page, frame, writable);
    }
}
