//! Guest memory of a scripted machine: the pages that were written; the others read zero.

use crate::base::addr::{GuestPhys, GuestRange, HostPhys, OutsideMemory, PAGE_BYTES};
use crate::base::hardware::GuestRam;
use crate::dispatch::guest::WINDOW_PAGES;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::cell::RefCell;

const PAGE: usize = 4096;

/// Memory and window of one guest.
#[derive(Debug)]
pub struct TestRam {
    len_bytes: u64,
    pages: RefCell<BTreeMap<u64, Box<[u8; PAGE]>>>,
    window: RefCell<BTreeMap<u64, (HostPhys, bool)>>,
}

impl TestRam {
    /// Memory of this size, a multiple of the page size, all zero.
    pub const fn new(len_bytes: u64) -> Self {
        Self { len_bytes, pages: RefCell::new(BTreeMap::new()), window: RefCell::new(BTreeMap::new()) }
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
        GuestRange::new(at, len as u64, self.len_bytes)?;
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

impl GuestRam for TestRam {
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

    fn clear(&self) {
        self.pages.borrow_mut().clear();
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
