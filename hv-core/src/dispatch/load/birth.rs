//! A guest's memory comes into being: cleared, and then written as planned, part by part. Whoever reboots in a loop does that in
//! its own time, and others have their turns in between.

use super::{Piece, Plan};
use crate::base::addr::{GuestPhys, LARGE_PAGE_BYTES};
use crate::base::hardware::GuestRam;

/// Bytes that one step clears or writes: some microseconds' work.
const STEP_BYTES: usize = 64 << 10;

/// What is left to do.
#[derive(Debug)]
pub struct Birth {
    cleared_bytes: u64,
    pieces: alloc::vec::IntoIter<Piece<'static>>,
    /// The piece that is being written, and how much of it has been.
    writing: Option<(Piece<'static>, usize)>,
}

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// There is.
    More,
    /// The memory is as planned.
    Done,
}

impl Birth {
    /// Everything is still to be done.
    pub fn new(plan: Plan<'static>) -> Self {
        Self { cleared_bytes: 0, pieces: plan.pieces.into_iter(), writing: None }
    }

    /// Does the next part, in the memory of a guest that does not run.
    pub fn step(&mut self, ram: &impl GuestRam) -> Progress {
        if self.cleared_bytes < ram.block_count() * LARGE_PAGE_BYTES {
            ram.clear(GuestPhys::new_truncate(self.cleared_bytes), STEP_BYTES as u64);
            self.cleared_bytes += STEP_BYTES as u64;
            return Progress::More;
        }
        let Some((piece, done)) = self.writing.take().or_else(|| Some((self.pieces.next()?, 0))) else {
            return Progress::Done;
        };
        let rest = piece.bytes.get(done..).unwrap_or_default();
        let part = rest.chunks(STEP_BYTES).next().unwrap_or_default();
        let at = piece.at.checked_add(done as u64).unwrap_or(piece.at);
        // The plan was checked against this memory, and nobody takes blocks from a guest that does not run.
        let written = ram.write(at, part);
        debug_assert!(written.is_ok(), "{written:?}");
        let done = done + part.len();
        self.writing = (done < piece.bytes.len()).then_some((piece, done));
        Progress::More
    }
}
