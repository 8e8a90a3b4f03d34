//! Memory that is shared with another guest.
#![expect(unsafe_code, reason = "turns the addresses of a channel into ring memory")]

use super::{call, tables};
use core::ptr::NonNull;
use pv_abi::PAGE_BYTES;
use pv_abi::call::Code;
use pv_abi::table::Table;
use ring_buffers::Region;

/// Room that each channel has in the window, in pages: the most that a configuration gives one.
const CHANNEL_PAGES: u64 = 64;
/// Where devices begin at the earliest: no RAM that this kernel was given lies above.
const DEVICES_FROM: u64 = 0xc000_0000;
/// Words in a page.
const PAGE_WORDS: usize = PAGE_BYTES / 8;

/// Pages shared with one peer, mapped onto themselves from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pages {
    first: u64,
    pages: usize,
}

impl Pages {
    /// Places channel `number` in the window, behind the tables.
    pub(crate) fn place(number: u8, pages: u16, window: u64) -> Result<Self, Code> {
        let page = tables::FREE_AT + u64::from(number) * CHANNEL_PAGES;
        let first = window + page * PAGE_BYTES as u64;
        let pages = usize::from(pages);
        if !fits(first, pages) {
            return Err(Code::BAD_ADDRESS);
        }
        // SAFETY: behind the tables and the other channels, in the window; MAP refuses what is not.
        match unsafe { call::map(Table::channel(number), first) } {
            Code::OK => Ok(Self { first, pages }),
            refused => Err(refused),
        }
    }

    /// Takes the pages where the channel's device says that they are: above RAM, where no Rust object is.
    pub(crate) fn of_device(first: u64, pages: u16) -> Option<Self> {
        let pages = usize::from(pages);
        let above_ram = first >= DEVICES_FROM;
        (above_ram && fits(first, pages)).then_some(Self { first, pages })
    }

    /// How many there are.
    pub(crate) fn count(self) -> usize {
        self.pages
    }

    /// The first or the second half.
    pub(crate) fn half(self, second: bool) -> Option<Region> {
        let words = self.pages * PAGE_WORDS / 2;
        let skip = if second { words as u64 * 8 } else { 0 };
        let address = usize::try_from(self.first + skip).ok()?;
        let first = NonNull::new(core::ptr::with_exposed_provenance_mut(address))?;
        // SAFETY: mapped for as long as this kernel runs, on a multiple of 8, and no Rust object: only regions reach it.
        Some(unsafe { Region::new(first, words) })
    }
}

/// Whether pages are there and in the part of memory that is mapped onto itself.
fn fits(first: u64, pages: usize) -> bool {
    let end = (pages as u64).checked_mul(PAGE_BYTES as u64).and_then(|bytes| first.checked_add(bytes));
    pages != 0
        && first != 0
        && first.is_multiple_of(PAGE_BYTES as u64)
        && end.is_some_and(|end| end <= 1 << 32)
}
