//! Physical memory as the hypervisor sees it: every address is mapped at itself.
//!
//! The one module that touches guest memory. It copies in and out after a check and hands out no reference.
#![expect(unsafe_code, reason = "physical memory through raw pointers, and the global allocator")]

use crate::base::addr::{GuestPhys, HostPhys, LARGE_PAGE_BYTES, OutsideMemory, PAGE_BYTES};
use crate::base::hardware::{GuestBlocks, GuestBytes, SharedWindow};
use crate::policy::mm::frames::Frames;
use crate::policy::mm::nested::{self, EntryFormat, Rights, TableMemory};
use crate::policy::vcpu_shared::SharedFrames;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::arch::asm;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicU8, AtomicU64};
use linked_list_allocator::Heap;
use spin::Mutex;

/// Physical memory below is mapped at its own address (I-4).
pub const MAPPED: u64 = 4 << 30;

/// Where physical address `at` is mapped.
fn pointer(at: HostPhys) -> *mut u8 {
    ptr::with_exposed_provenance_mut(usize::try_from(at.raw()).unwrap_or(0))
}

/// Owner of all physical memory that is not the image, the bundle or the firmware's.
///
/// Exactly one exists, so that a frame has one owner (I-2).
pub struct Memory {
    frames: Frames,
}

impl Memory {
    /// Takes the free memory into service.
    ///
    /// # Safety
    ///
    /// Every byte in `frames` is RAM, mapped at its own address, writable, and used by nothing else.
    pub const unsafe fn new(frames: Frames) -> Self {
        Self { frames }
    }

    /// Bytes not handed out.
    pub fn free_bytes(&self) -> u64 {
        self.frames.free_bytes()
    }

    /// Copies from anywhere below 4 GiB: for the firmware's tables. False for what lies above.
    pub fn read_firmware(&self, at: u64, into: &mut [u8]) -> bool {
        let end = at.checked_add(into.len() as u64);
        let from = HostPhys::new(at).filter(|_| end.is_some_and(|end| end <= MAPPED));
        let Some(from) = from else { return false };
        // SAFETY: below 4 GiB everything is mapped (I-4), and while guests are made nothing there changes by itself; a device's
        // registers read as something.
        unsafe { ptr::copy_nonoverlapping(pointer(from), into.as_mut_ptr(), into.len()) };
        true
    }

    /// Zeroed pages that follow one another, for good.
    pub fn pages(&mut self, pages: u64, align_bytes: u64) -> Option<HostPhys> {
        let start = self.frames.take(pages, align_bytes)?;
        let bytes = usize::try_from(pages * PAGE_BYTES).ok()?;
        // SAFETY: `take` gave this run to nobody else, and it is mapped RAM (contract of `new`).
        unsafe { ptr::write_bytes(pointer(start), 0, bytes) };
        Some(start)
    }

    /// Zeroed pages as words that a guest will see too.
    pub fn shared_frames(&mut self, pages: usize) -> Option<SharedFrames> {
        let start = self.pages(pages as u64, PAGE_BYTES)?;
        let words = usize::try_from(pages as u64 * PAGE_BYTES / 8).ok()?;
        // SAFETY: the run is ours for good, aligned, zeroed, and from now on reached by atomics only; a guest's writes to
        // it are machine stores that an atomic load tolerates.
        let words = unsafe { core::slice::from_raw_parts(pointer(start).cast::<AtomicU64>(), words) };
        Some(SharedFrames { start, words })
    }

    /// A zeroed page as a value of one page, for good.
    ///
    /// # Safety
    ///
    /// All-zero is a valid `T`.
    pub unsafe fn zeroed_page<T>(&mut self) -> Option<(HostPhys, &'static mut T)> {
        const { assert!(size_of::<T>() == 4096 && align_of::<T>() <= 4096) };
        let start = self.pages(1, PAGE_BYTES)?;
        // SAFETY: a page of its own, aligned, zeroed, valid as `T` by contract; nobody else has it.
        Some((start, unsafe { &mut *pointer(start).cast::<T>() }))
    }

    /// Pages filled with ones: permission maps.
    pub fn pages_of_ones(&mut self, pages: u64) -> Option<HostPhys> {
        let start = self.pages(pages, PAGE_BYTES)?;
        // SAFETY: `pages` gave the run to nobody else.
        unsafe { ptr::write_bytes(pointer(start), 0xff, usize::try_from(pages * PAGE_BYTES).ok()?) };
        Some(start)
    }

    /// Clears bits of a byte in a page that this owner handed out.
    ///
    /// # Safety
    ///
    /// `at` lies in pages from [`Self::pages_of_ones`] that no processor uses yet.
    pub unsafe fn clear_bits(&mut self, at: HostPhys, bits: u8) {
        // SAFETY: by contract.
        unsafe { *pointer(at) &= !bits };
    }

    /// Memory for a guest, `len_bytes` of it mapped from guest-physical 0 under a new root, with tables for `most_bytes` (both
    /// whole blocks), and an empty window at `window_base`.
    pub fn guest_ram<F: EntryFormat>(
        &mut self,
        len_bytes: u64,
        most_bytes: u64,
        window_base: GuestPhys,
    ) -> Option<(HostPhys, Ram)> {
        let start = self.pages(len_bytes / PAGE_BYTES, LARGE_PAGE_BYTES)?;
        let root = self.new_table()?;
        nested::map::<F>(self, root, GuestPhys::ZERO, start, len_bytes, Rights::All).ok()?;
        let window = nested::prepare::<F>(self, root, window_base, 0).ok()?;
        let starts = (0..most_bytes).step_by(1 << 30).map(GuestPhys::new_truncate);
        let directories =
            starts.map(|gpa| nested::prepare::<F>(self, root, gpa, 1)).collect::<Result<_, _>>();
        let blocks = (0..most_bytes / LARGE_PAGE_BYTES).map(|n| {
            let offset = n * LARGE_PAGE_BYTES;
            AtomicU64::new(if offset < len_bytes { start.raw() + offset } else { ABSENT })
        });
        let blocks = blocks.collect();
        Some((root, Ram { len_bytes, blocks, directories: directories.ok()?, window, leaf: F::leaf }))
    }

    /// All memory that is left, in blocks.
    pub fn blocks(&mut self) -> Vec<Block> {
        let pages = LARGE_PAGE_BYTES / PAGE_BYTES;
        core::iter::from_fn(|| self.frames.take(pages, LARGE_PAGE_BYTES).map(Block)).collect()
    }
}

/// A large page of RAM that is nobody's but this value's: from [`Memory::blocks`], or taken from a guest.
#[derive(Debug)]
pub struct Block(HostPhys);

impl TableMemory for Memory {
    fn new_table(&mut self) -> Option<HostPhys> {
        self.pages(1, PAGE_BYTES)
    }

    fn entry(&self, table: HostPhys, index: usize) -> u64 {
        // SAFETY: `table` came from `new_table`, so it is a page of ours; the walker keeps `index` below 512.
        unsafe { pointer(table).cast::<u64>().add(index & 511).read_volatile() }
    }

    fn set_entry(&mut self, table: HostPhys, index: usize, value: u64) {
        // SAFETY: as in `entry`; a processor that walks the table sees old or new, both whole.
        unsafe { pointer(table).cast::<u64>().add(index & 511).write_volatile(value) }
    }
}

/// A guest's memory: blocks, of which some may be absent.
#[derive(Debug)]
pub struct Ram {
    len_bytes: u64,
    /// Where each block lies, or [`ABSENT`].
    blocks: Box<[AtomicU64]>,
    /// The tables of large pages, one a GiB.
    directories: Box<[HostPhys]>,
    /// The lowest-level table of the window.
    window: HostPhys,
    /// How the vendor spells its entries.
    leaf: fn(HostPhys, Rights, bool) -> u64,
}

/// No block: at physical address 0 lies no memory of a guest's.
const ABSENT: u64 = 0;
/// Entries in a table.
const ENTRIES: u64 = 512;

impl Ram {
    fn block(&self, n: u64) -> Option<&AtomicU64> {
        self.blocks.get(usize::try_from(n).ok()?)
    }

    /// An entry of a table of this guest's.
    fn entry(&self, table: HostPhys, index: u64) -> Option<&AtomicU64> {
        let index = usize::try_from(index).ok().filter(|_| index < ENTRIES)?;
        // SAFETY: `table` is one of this guest alone (`Memory::guest_ram`), never freed, and the index is inside; a processor's
        // table walk and its accessed bits are what an atomic tolerates.
        Some(unsafe { &*pointer(table).cast::<AtomicU64>().add(index) })
    }

    /// The entry of block `n`.
    fn leaf_of(&self, n: u64) -> Option<&AtomicU64> {
        let directory = self.directories.get(usize::try_from(n / ENTRIES).ok()?)?;
        self.entry(*directory, n % ENTRIES)
    }

    fn window_entry(&self, page: u64) -> Option<&AtomicU64> {
        self.entry(self.window, page)
    }

    /// Calls `each` with every piece of a range that lies in one block: where it is, its offset in the range, its length.
    fn pieces(
        &self,
        at: GuestPhys,
        len: usize,
        mut each: impl FnMut(*mut u8, usize, usize),
    ) -> Result<(), OutsideMemory> {
        at.check_range(len as u64, self.blocks.len() as u64 * LARGE_PAGE_BYTES)?;
        let mut done = 0;
        while done < len {
            let start = at.raw() + done as u64;
            let (block, offset) = (start / LARGE_PAGE_BYTES, start % LARGE_PAGE_BYTES);
            let base = self.block(block).map_or(ABSENT, |block| block.load(SeqCst));
            if base == ABSENT {
                return Err(OutsideMemory(GuestPhys::new_truncate(start)));
            }
            let room = usize::try_from(LARGE_PAGE_BYTES - offset).unwrap_or(0);
            let piece = (len - done).min(room);
            each(pointer(HostPhys::new_truncate(base + offset)), done, piece);
            done += piece;
        }
        Ok(())
    }
}

/// Copies; a word of 2, 4 or 8 bytes by one access on either side, which is one step where it is aligned (SDM vol 3A §8.1.1).
///
/// # Safety
///
/// Both have `len` bytes, and at most one of them is a Rust value's.
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    macro_rules! word {
        ($load:literal, $store:literal) => {
            asm!($load, $store, out(reg) _, in(reg) from, in(reg) to, options(nostack, preserves_flags))
        };
    }
    // SAFETY: by contract.
    unsafe {
        match len {
            2 => word!("mov {0:x}, [{1}]", "mov [{2}], {0:x}"),
            4 => word!("mov {0:e}, [{1}]", "mov [{2}], {0:e}"),
            8 => word!("mov {0}, [{1}]", "mov [{2}], {0}"),
            _ => ptr::copy_nonoverlapping(from, to, len),
        }
    }
}

impl GuestBytes for Ram {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<(), OutsideMemory> {
        self.pieces(at, into.len(), |_, _, _| {})?;
        self.pieces(at, into.len(), |from, done, len| {
            if let Some(into) = into.get_mut(done..done + len) {
                // SAFETY: the piece lies in a block of this guest, which is not used again before the vCPU that this is done
                // for lets go of it (I-9); guest frames and `into` never overlap (I-2). A guest may write meanwhile: the
                // copy then holds a mix of old and new, which the caller checks as it checks any claim; but a word is whole.
                unsafe { copy(from, into.as_mut_ptr(), into.len()) };
            }
        })
    }

    fn write(&self, at: GuestPhys, from: &[u8]) -> Result<(), OutsideMemory> {
        self.pieces(at, from.len(), |_, _, _| {})?;
        self.pieces(at, from.len(), |to, done, len| {
            if let Some(from) = from.get(done..done + len) {
                // SAFETY: as in `read`.
                unsafe { copy(from.as_ptr(), to, from.len()) };
            }
        })
    }

    fn exchange(&self, at: GuestPhys, byte: u8) -> Result<u8, OutsideMemory> {
        let mut before = Err(OutsideMemory(at));
        self.pieces(at, 1, |place, _, _| {
            // SAFETY: the byte lies in a block of this guest (as in `read`), and an atomic tolerates whatever its vCPUs do to it.
            before = Ok(unsafe { AtomicU8::from_ptr(place) }.swap(byte, SeqCst));
        })?;
        before
    }

    fn clear(&self, at: GuestPhys, len_bytes: u64) {
        let base = self.block(at.raw() / LARGE_PAGE_BYTES).map_or(ABSENT, |block| block.load(SeqCst));
        if base != ABSENT {
            // The guest has no vCPU that runs: for this moment the block is nobody's.
            let mut block = Block(HostPhys::new_truncate(base));
            Self::clear_block(&mut block, at.raw() % LARGE_PAGE_BYTES, len_bytes);
        }
    }
}

impl GuestBlocks for Ram {
    type Block = Block;

    fn block_count(&self) -> u64 {
        self.blocks.len() as u64
    }

    fn has_block(&self, n: u64) -> bool {
        self.block(n).is_some_and(|block| block.load(SeqCst) != ABSENT)
    }

    fn remove_block(&self, n: u64) -> Option<Block> {
        let base = self.block(n)?.swap(ABSENT, SeqCst);
        self.leaf_of(n)?.store(0, SeqCst);
        (base != ABSENT).then_some(Block(HostPhys::new_truncate(base)))
    }

    fn insert_block(&self, n: u64, block: Block) -> Result<(), Block> {
        let Some((place, leaf)) = self.block(n).zip(self.leaf_of(n)) else { return Err(block) };
        if place.compare_exchange(ABSENT, block.0.raw(), SeqCst, SeqCst).is_err() {
            return Err(block);
        }
        leaf.store((self.leaf)(block.0, Rights::All, true), SeqCst);
        Ok(())
    }

    fn clear_block(block: &mut Block, offset: u64, len_bytes: u64) {
        let from = offset.min(LARGE_PAGE_BYTES);
        let len = usize::try_from(len_bytes.min(LARGE_PAGE_BYTES - from)).unwrap_or(0);
        // SAFETY: the part lies in the block, which is mapped RAM and nobody else's (`Block`).
        unsafe { ptr::write_bytes(pointer(HostPhys::new_truncate(block.0.raw() + from)), 0, len) };
    }
}

impl SharedWindow for Ram {
    fn clear_window(&self) {
        for entry in (0..ENTRIES).filter_map(|page| self.window_entry(page)) {
            entry.store(0, Relaxed);
        }
    }

    fn window_is_free(&self, page: u64) -> bool {
        self.window_entry(page).is_some_and(|entry| entry.load(Relaxed) == 0)
    }

    fn place_in_window(&self, page: u64, frame: HostPhys, writable: bool) {
        if let Some(entry) = self.window_entry(page) {
            let rights = if writable { Rights::ReadWrite } else { Rights::Read };
            entry.store((self.leaf)(frame, rights, false), Relaxed);
        }
    }
}

/// The hypervisor's heap: for what lives as long as a guest or the machine, for lines and records. An exit allocates only where
/// it ends a guest, or notes a mark.
pub struct HypervisorHeap {
    /// What every machine has.
    first: Mutex<Heap>,
    /// What its configuration needs beyond that.
    second: Mutex<Heap>,
}

impl HypervisorHeap {
    /// A heap with nothing in it.
    pub const fn empty() -> Self {
        Self { first: Mutex::new(Heap::empty()), second: Mutex::new(Heap::empty()) }
    }

    /// Gives it memory, once; false where there is not so much.
    pub fn init(&self, memory: &mut Memory, bytes: u64) -> bool {
        Self::fill(&self.first, memory, bytes)
    }

    /// Gives it more memory, once; false where there is not so much.
    pub fn extend(&self, memory: &mut Memory, bytes: u64) -> bool {
        Self::fill(&self.second, memory, bytes)
    }

    fn fill(part: &Mutex<Heap>, memory: &mut Memory, bytes: u64) -> bool {
        let mut heap = part.lock();
        if heap.size() != 0 {
            return false;
        }
        let pages = bytes.div_ceil(PAGE_BYTES);
        let Some(start) = memory.pages(pages, PAGE_BYTES) else { return false };
        let bytes = usize::try_from(pages * PAGE_BYTES).unwrap_or(0);
        // SAFETY: the run is this heap's alone and for good, and the heap was empty.
        unsafe { heap.init(pointer(start), bytes) };
        true
    }
}

// SAFETY: each `Heap` hands out disjoint blocks of the run it was given, the runs are disjoint, and a lock makes each step one.
unsafe impl GlobalAlloc for HypervisorHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.first.lock().allocate_first_fit(layout);
        let block = block.or_else(|()| self.second.lock().allocate_first_fit(layout));
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else { return };
        let mut second = self.second.lock();
        if (second.bottom()..second.top()).contains(&block.as_ptr()) {
            // SAFETY: by `GlobalAlloc`'s contract `block` came from `alloc` with this layout, and it lies in this run.
            unsafe { second.deallocate(block, layout) };
        } else {
            drop(second);
            // SAFETY: as above; what does not lie in the second run came from the first.
            unsafe { self.first.lock().deallocate(block, layout) };
        }
    }
}
