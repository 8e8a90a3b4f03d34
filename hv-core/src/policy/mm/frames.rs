//! The free frames of the machine, as a short list of runs.

use crate::base::addr::{HostPhys, PAGE_BYTES};
use heapless::Vec;

/// Runs that can be kept apart; a machine's memory map has about ten.
const MAX_RUNS: usize = 64;

/// Free physical memory. First fit; runs never overlap and hold whole pages. A run too many is lost, not double-used.
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
    /// Adds a range; parts of pages at its ends are dropped.
    pub fn add(&mut self, start: HostPhys, len_bytes: u64) {
        let end = start.raw().saturating_add(len_bytes) & !(PAGE_BYTES - 1);
        let start = start.raw().next_multiple_of(PAGE_BYTES);
        if start < end {
            let _ = self.free.push(Run { start, end });
        }
    }

    /// Takes a range away, wherever it is free.
    pub fn reserve(&mut self, start: HostPhys, len_bytes: u64) {
        let taken = Run {
            start: start.page().raw(),
            end: start.raw().saturating_add(len_bytes).next_multiple_of(PAGE_BYTES),
        };
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

    /// Takes `pages` that follow one another, the first at a multiple of `align_bytes` (a power of two, at least a page).
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

    /// Bytes that are free.
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
        frames.reserve(at(0x4800), 0x1000); // two pages are touched
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
}
