//! Guest memory of a scripted machine: the pages that were written; the others read zero.

use crate::base::addr::{GuestPhys, HostPhys, LARGE_PAGE_BYTES, OutsideMemory, PAGE_BYTES};
use crate::base::hardware::{GuestBlocks, GuestBytes, SharedWindow};
use crate::guest::guest::WINDOW_PAGES;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::cell::RefCell;

const PAGE: usize = 4096;
const BLOCK: usize = 2 << 20;
/// Pages in a block.
const PAGES: u64 = LARGE_PAGE_BYTES / PAGE_BYTES;

/// What a test sees of each access: where it begins.
type Watch = Box<dyn Fn(GuestPhys)>;

/// Memory and window of one guest.
pub struct TestRam {
    len_bytes: u64,
    blocks: RefCell<Box<[bool]>>,
    pages: RefCell<BTreeMap<u64, Box<[u8; PAGE]>>>,
    window: RefCell<BTreeMap<u64, (HostPhys, bool)>>,
    watch: RefCell<Option<Watch>>,
}

impl TestRam {
    /// Memory of this size, all zero, that may grow to that; both whole blocks.
    pub fn new(len_bytes: u64, most_bytes: u64) -> Self {
        let blocks = (0..most_bytes).step_by(BLOCK).map(|start| start < len_bytes);
        Self {
            len_bytes,
            blocks: RefCell::new(blocks.collect()),
            pages: RefCell::new(BTreeMap::new()),
            window: RefCell::new(BTreeMap::new()),
            watch: RefCell::new(None),
        }
    }

    /// Calls `watch` before each access from now on.
    pub fn watch(&self, watch: impl Fn(GuestPhys) + 'static) {
        *self.watch.borrow_mut() = Some(Box::new(watch));
    }

    /// What stands in the window: page, frame, and whether the guest may write it.
    pub fn window(&self) -> BTreeMap<u64, (HostPhys, bool)> {
        self.window.borrow().clone()
    }

    /// Calls `each` with every piece of a range that lies in one page: page, offset in it, offset in the range, length.
    fn pieces(
        &self,
        at: GuestPhys,
        len: usize,
        mut each: impl FnMut(u64, usize, usize, usize),
    ) -> Result<(), OutsideMemory> {
        if let Some(watch) = &*self.watch.borrow() {
            watch(at);
        }
        at.check_range(len as u64, self.block_count() * LARGE_PAGE_BYTES)?;
        let last = (at.raw() + len as u64).saturating_sub(1);
        let mut blocks = at.raw() / LARGE_PAGE_BYTES..=last / LARGE_PAGE_BYTES;
        if let Some(absent) = blocks.find(|n| len > 0 && !self.has_block(*n)) {
            return Err(OutsideMemory(at.max(GuestPhys::new_truncate(absent * LARGE_PAGE_BYTES))));
        }
        let mut done = 0;
        while done < len {
            let start = at.raw() + done as u64;
            let offset = usize::try_from(start % PAGE_BYTES).unwrap_or(0);
            let piece = (len - done).min(PAGE - offset);
            each(start / PAGE_BYTES, offset, done, piece);
            done += piece;
        }
        Ok(())
    }
}

/// A block, with what is in its pages.
#[derive(Debug, Default)]
pub struct TestBlock(BTreeMap<u64, Box<[u8; PAGE]>>);

impl GuestBytes for TestRam {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<(), OutsideMemory> {
        let pages = self.pages.borrow();
        self.pieces(at, into.len(), |page, offset, done, len| {
            let to = &mut into[done..done + len];
            match pages.get(&page) {
                Some(page) => to.copy_from_slice(&page[offset..offset + len]),
                None => to.fill(0),
            }
        })
    }

    fn write(&self, at: GuestPhys, from: &[u8]) -> Result<(), OutsideMemory> {
        let mut pages = self.pages.borrow_mut();
        self.pieces(at, from.len(), |page, offset, done, len| {
            let page = pages.entry(page).or_insert_with(|| Box::new([0; PAGE]));
            page[offset..offset + len].copy_from_slice(&from[done..done + len]);
        })
    }

    fn exchange(&self, at: GuestPhys, byte: u8) -> Result<u8, OutsideMemory> {
        let mut before = [0];
        self.read(at, &mut before)?;
        self.write(at, &[byte])?;
        Ok(before[0])
    }

    fn clear(&self, at: GuestPhys, len_bytes: u64) {
        let cleared = at.raw() / PAGE_BYTES..(at.raw() + len_bytes) / PAGE_BYTES;
        self.pages.borrow_mut().retain(|page, _| !cleared.contains(page));
    }
}

impl GuestBlocks for TestRam {
    type Block = TestBlock;

    fn block_count(&self) -> u64 {
        self.blocks.borrow().len() as u64
    }

    fn has_block(&self, n: u64) -> bool {
        usize::try_from(n).is_ok_and(|n| self.blocks.borrow().get(n).copied().unwrap_or(false))
    }

    fn remove_block(&self, n: u64) -> Option<TestBlock> {
        let index = usize::try_from(n).ok()?;
        core::mem::take(self.blocks.borrow_mut().get_mut(index)?).then(|| {
            let first = n * PAGES;
            let mut pages = self.pages.borrow_mut();
            let taken = pages.extract_if(first..first + PAGES, |_, _| true);
            TestBlock(taken.map(|(page, content)| (page - first, content)).collect())
        })
    }

    fn insert_block(&self, n: u64, block: TestBlock) -> Result<(), TestBlock> {
        let mut blocks = self.blocks.borrow_mut();
        let place = usize::try_from(n).ok().and_then(|n| blocks.get_mut(n));
        let Some(place) = place.filter(|is_there| !**is_there) else { return Err(block) };
        *place = true;
        self.pages
            .borrow_mut()
            .extend(block.0.into_iter().map(|(page, content)| (page + n * PAGES, content)));
        Ok(())
    }

    fn clear_block(block: &mut TestBlock, offset: u64, len_bytes: u64) {
        let cleared = offset / PAGE_BYTES..(offset + len_bytes) / PAGE_BYTES;
        block.0.retain(|page, _| !cleared.contains(page));
    }
}

impl SharedWindow for TestRam {
    fn clear_window(&self) {
        self.window.borrow_mut().clear();
    }

    fn window_is_free(&self, page: u64) -> bool {
        page < WINDOW_PAGES && !self.window.borrow().contains_key(&page)
    }

    fn place_in_window(&self, page: u64, frame: HostPhys, writable: bool) {
        if page < WINDOW_PAGES {
            self.window.borrow_mut().insert(page, (frame, writable));
        }
    }
}
