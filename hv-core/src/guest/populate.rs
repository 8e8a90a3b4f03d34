//! A guest's memory comes into being: cleared, then written as planned, and then what it shares with its peers is cleared, part by
//! part. Whoever reboots in a loop does that in its own time, and others have their turns in between. The pages that a guest shared
//! are cleared in the same way when it has ended.

use crate::base::addr::{GuestPhys, LARGE_PAGE_BYTES};
use crate::base::hardware::{GuestRam, SharedWords};
use crate::guest::channel_end::ChannelEnd;
use crate::image::load::{Piece, Plan};
use alloc::vec::{self, Vec};
use core::ops::Range;
use core::slice;
use core::sync::atomic::Ordering::Relaxed;

/// Bytes that one step clears or writes: some microseconds' work.
const STEP_BYTES: usize = 64 << 10;
const STEP_WORDS: usize = STEP_BYTES / 8;

/// What is left to do.
#[derive(Debug)]
pub struct Populating {
    /// RAM that is yet to be cleared: from here up to there.
    ram_bytes: Range<u64>,
    pieces: vec::IntoIter<Piece<'static>>,
    /// The piece that is being written, and how much of it has been.
    writing: Option<(Piece<'static>, usize)>,
    /// Words of a channel that are yet to be cleared, and the channels after it.
    shared: SharedWords,
    channels: slice::Iter<'static, ChannelEnd>,
}

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum PopulateProgress {
    /// There is.
    More,
    /// The memory is as planned.
    Done,
}

impl Populating {
    /// Everything is still to be done.
    pub fn new(plan: Plan<'static>, ram: &impl GuestRam, channels: &'static [ChannelEnd]) -> Self {
        Self { ram_bytes: 0..ram.len_bytes(), pieces: plan.pieces.into_iter(), ..Self::of_channels(channels) }
    }

    /// Only the pages of channels are to be cleared.
    pub fn of_channels(channels: &'static [ChannelEnd]) -> Self {
        let pieces = Vec::new().into_iter();
        Self { ram_bytes: 0..0, pieces, writing: None, shared: &[], channels: channels.iter() }
    }

    /// The block that the next part clears, where others have it.
    pub fn missing_block(&self, ram: &impl GuestRam) -> Option<u64> {
        let n = self.ram_bytes.start / LARGE_PAGE_BYTES;
        (!self.ram_bytes.is_empty() && !ram.has_block(n)).then_some(n)
    }

    /// Whether all of a life's memory is yet to be made.
    pub fn is_untouched(&self) -> bool {
        self.ram_bytes.start == 0 && !self.ram_bytes.is_empty()
    }

    /// Does the next part, in the memory of a guest that does not run.
    pub fn step(&mut self, ram: &impl GuestRam) -> PopulateProgress {
        if !self.ram_bytes.is_empty() {
            ram.clear(GuestPhys::new_truncate(self.ram_bytes.start), STEP_BYTES as u64);
            self.ram_bytes.start += STEP_BYTES as u64;
            return PopulateProgress::More;
        }
        if let Some((piece, done)) = self.writing.take().or_else(|| Some((self.pieces.next()?, 0))) {
            let rest = piece.bytes.get(done..).unwrap_or_default();
            let part = rest.chunks(STEP_BYTES).next().unwrap_or_default();
            let at = piece.at.checked_add(done as u64).unwrap_or(piece.at);
            // The plan was checked against this memory, and nobody takes blocks from a guest that does not run.
            let written = ram.write(at, part);
            debug_assert!(written.is_ok(), "{written:?}");
            let done = done + part.len();
            self.writing = (done < piece.bytes.len()).then_some((piece, done));
            return PopulateProgress::More;
        }
        if self.shared.is_empty() {
            let Some(end) = self.channels.next() else { return PopulateProgress::Done };
            self.shared = end.frames.words;
        }
        let (part, rest) = self.shared.split_at(STEP_WORDS.min(self.shared.len()));
        part.iter().for_each(|word| word.store(0, Relaxed));
        self.shared = rest;
        PopulateProgress::More
    }
}
