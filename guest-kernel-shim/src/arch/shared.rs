//! Pages that this guest shares with another guest.
#![expect(unsafe_code, reason = "turns the addresses of a channel into ring memory")]

use super::{call, tables};
use core::ptr::NonNull;
use pv_abi::PAGE_BYTES;
use pv_abi::call::Code;
use pv_abi::table::Table;
use ring_buffers::Region;

/// Pages that the window reserves for each channel: the most that a configuration may give one.
const CHANNEL_PAGES: u64 = 64;
/// Lowest address of a device; this kernel's RAM lies below.
const DEVICES_FROM: u64 = 0xc000_0000;
/// Words in a page.
const PAGE_WORDS: usize = PAGE_BYTES / 8;

/// Pages shared with one peer, mapped at their own addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pages {
    first: u64,
    pages: usize,
}

impl Pages {
    /// Maps the pages of channel `number` in the window, behind the tables.
    pub(crate) fn place(number: u8, pages: u16, window: u64) -> Result<Self, Code> {
        let page = tables::FREE_AT + u64::from(number) * CHANNEL_PAGES;
        let first = window + page * PAGE_BYTES as u64;
        let pages = usize::from(pages);
        if !fits(first, pages) {
            return Err(Code::BAD_ADDRESS);
        }
        // SAFETY: these pages lie behind the tables and apart from other channels; the hypervisor refuses pages outside
        // the window.
        match unsafe { call::map(Table::channel(number), first) } {
            Code::OK => Ok(Self { first, pages }),
            refused => Err(refused),
        }
    }

    /// Takes the pages at the address that the channel's device reports, if they lie above RAM, where no Rust object
    /// is.
    pub(crate) fn of_device(first: u64, pages: u16) -> Option<Self> {
        let pages = usize::from(pages);
        let above_ram = first >= DEVICES_FROM;
        (above_ram && fits(first, pages)).then_some(Self { first, pages })
    }

    /// How many pages there are.
    pub(crate) fn count(self) -> usize {
        self.pages
    }

    /// The first or the second half of the pages.
    pub(crate) fn half(self, second: bool) -> Option<Region> {
        let words = self.pages * PAGE_WORDS / 2;
        let skip = if second { words as u64 * 8 } else { 0 };
        let address = usize::try_from(self.first + skip).ok()?;
        let first = NonNull::new(core::ptr::with_exposed_provenance_mut(address))?;
        // SAFETY: the pages stay mapped while this kernel runs, the address is a multiple of 8, and only regions reach
        // them.
        Some(unsafe { Region::new(first, words) })
    }
}

/// Whether the pages exist and lie below 4 GiB, where memory is mapped at its own address.
fn fits(first: u64, pages: usize) -> bool {
    let end = (pages as u64).checked_mul(PAGE_BYTES as u64).and_then(|bytes| first.checked_add(bytes));
    pages != 0
        && first != 0
        && first.is_multiple_of(PAGE_BYTES as u64)
        && end.is_some_and(|end| end <= 1 << 32)
}
