//! The free frames of the machine, as a short list of runs.

use crate::base::addr::{HostPhys, PAGE_BYTES};
use heapless::Vec;

/// Upper limit of the number of separate runs; a machine's memory map has about ten.
const MAX_RUNS: usize = 64;

/// Free physical memory, allocated first-fit. Runs never overlap and hold whole pages. A run past `MAX_RUNS` is lost, never used twice.
#[derive(Debug, Default)]
pub struct Frames {
    free: Vec<Run, MAX_RUNS>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    start: u64,
    end: u64,
}

impl Frames {
    /// Adds a range. Partial pages at its ends are dropped, and pages that are free already are not counted twice.
    pub fn add(&mut self, start: HostPhys, len_bytes: u64) {
        let end = start.raw().saturating_add(len_bytes) & !(PAGE_BYTES - 1);
        let start = start.raw().next_multiple_of(PAGE_BYTES);
        if start < end {
            self.reserve(HostPhys::new_truncate(start), end - start);
            let _ = self.free.push(Run { start, end });
        }
    }

    /// Adds the RAM ranges of a memory map, and then reserves its other ranges, because the ranges of a map may overlap. An entry is start,
    /// length in bytes, and whether it is RAM.
    pub fn learn<I: Iterator<Item = (HostPhys, u64, bool)>>(&mut self, entries: impl Fn() -> I) {
        for (start, len_bytes, _) in entries().filter(|(_, _, is_ram)| *is_ram) {
            self.add(start, len_bytes);
        }
        for (start, len_bytes, _) in entries().filter(|(_, len_bytes, is_ram)| !*is_ram && *len_bytes != 0) {
            self.reserve(start, len_bytes);
        }
    }

    /// The lowest free page whose address is in `range`. The page stays free.
    pub fn lowest_page(&self, range: core::ops::Range<u64>) -> Option<HostPhys> {
        let first = self.free.iter().filter_map(|run| {
            let start = run.start.max(range.start.next_multiple_of(PAGE_BYTES));
            (start < run.end.min(range.end)).then_some(start)
        });
        first.min().and_then(HostPhys::new)
    }

    /// Removes a range, rounded outward to whole pages, from the free memory; parts of it may be in use already.
    pub fn reserve(&mut self, start: HostPhys, len_bytes: u64) {
        let end = start.raw().saturating_add(len_bytes).saturating_add(PAGE_BYTES - 1) & !(PAGE_BYTES - 1);
        let taken = Run { start: start.page().raw(), end };
        let runs = core::mem::take(&mut self.free);
        for run in runs {
            let below = Run { start: run.start, end: run.end.min(taken.start) };
            let above = Run { start: run.start.max(taken.end), end: run.end };
            for part in [below, above] {
                if part.start < part.end {
                    let _ = self.free.push(part);
                }
            }
        }
    }

    /// Takes `pages` contiguous pages, the first at a multiple of `align_bytes` (a power of two, at least a page).
    /// `None` when no run is long enough.
    pub fn take(&mut self, pages: u64, align_bytes: u64) -> Option<HostPhys> {
        let bytes = pages.checked_mul(PAGE_BYTES)?;
        let start = self.free.iter().find_map(|run| {
            let start = run.start.checked_next_multiple_of(align_bytes.max(PAGE_BYTES))?;
            (start.checked_add(bytes)? <= run.end).then_some(start)
        })?;
        let start = HostPhys::new(start)?;
        self.reserve(start, bytes);
        Some(start)
    }

    /// Number of free bytes.
    pub fn free_bytes(&self) -> u64 {
        self.free.iter().map(|run| run.end - run.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(raw: u64) -> HostPhys {
        HostPhys::new(raw).unwrap()
    }

    #[test]
    fn a_reserved_range_is_never_handed_out() {
        let mut frames = Frames::default();
        frames.add(at(0x1000), 0xf000);
        frames.reserve(at(0x4800), 0x1000); // the range touches two pages
        assert_eq!(frames.free_bytes(), 0xd000);
        let mut got = std::vec::Vec::new();
        while let Some(page) = frames.take(1, PAGE_BYTES) {
            got.push(page.raw());
        }
        assert_eq!(got.len(), 13);
        assert!(!got.contains(&0x4000) && !got.contains(&0x5000));
    }

    #[test]
    fn alignment_leaves_what_lies_before_it_free() {
        let mut frames = Frames::default();
        frames.add(at(0x1000), 4 << 20);
        assert_eq!(frames.take(512, 2 << 20), Some(at(2 << 20)));
        assert_eq!(frames.take(1, PAGE_BYTES), Some(at(0x1000)));
        assert_eq!(frames.take(1024, PAGE_BYTES), None);
        assert_eq!(frames.take(u64::MAX, PAGE_BYTES), None);
    }

    #[test]
    fn what_a_map_has_for_ram_and_for_something_else_is_not_free() {
        let map = [(at(0), 0x9_fc00, true), (at(0x9_0000), 0x1000, false), (at(0x10_0000), 0x10_0000, true)];
        let more = [(at(0x1f_0000), u64::MAX, false), (at(0x4000), 0, false)];
        let mut frames = Frames::default();
        frames.learn(|| map.into_iter().chain(more));
        assert_eq!(frames.free_bytes(), 0x9_e000 + 0xf_0000);
    }

    #[test]
    fn what_a_map_has_for_ram_twice_is_free_once() {
        let map = [
            (at(0x10_0000), 0x20_0800, true),
            (at(0x20_0000), 0x20_0000, true),
            (at(0x2f_f800), 0x1000, true),
        ];
        let mut frames = Frames::default();
        frames.learn(|| map.into_iter());
        assert_eq!(frames.free_bytes(), 0x30_0000);
        assert_eq!(core::iter::from_fn(|| frames.take(1, PAGE_BYTES)).count(), 0x300);
    }

    #[test]
    fn a_page_for_starting_processors_is_free_and_in_reach_or_there_is_none() {
        const REACH: core::ops::Range<u64> = 0x8000..0xa_0000;
        let page = |free: &[(u64, u64)], kept: &[(u64, u64)]| {
            let mut frames = Frames::default();
            for (start, len) in free {
                frames.add(at(*start), *len);
            }
            for (start, len) in kept {
                frames.reserve(at(*start), *len);
            }
            let before = frames.free_bytes();
            let page = frames.lowest_page(REACH).map(HostPhys::raw);
            assert_eq!(frames.free_bytes(), before, "it is only named");
            page
        };
        let low = (0, 0x9_fc00);
        assert_eq!(page(&[low], &[]), Some(0x8000));
        assert_eq!(page(&[low], &[(0x7f00, 0x101)]), Some(0x9000), "a command line lies there");
        assert_eq!(
            page(&[(0x10_0000, 1 << 20), (0x9_0000, 0x2000), (0x9_8000, 0x1000)], &[]),
            Some(0x9_0000)
        );
        assert_eq!(page(&[(0x10_0000, 1 << 20), (0, 0x8000)], &[]), None);
        assert_eq!(page(&[low], &[(0x8000, 0x9_8000)]), None);
        assert_eq!(page(&[(0xa_0000, 0x1_0000)], &[]), None, "where a start-up cannot begin");
    }
}
