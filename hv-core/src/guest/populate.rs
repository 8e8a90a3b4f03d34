//! Populating a guest's memory: the first vCPU clears the RAM, writes the load plan's pieces, and clears the pages shared with peers,
//! step by step. A guest that reboots in a loop does this on its own CPU time, and other vCPUs run between the steps. When a guest has
//! ended, the pages that it shared are cleared in the same way.

use crate::base::addr::{GuestPhys, LARGE_PAGE_BYTES};
use crate::base::hardware::{GuestRam, SharedWords};
use crate::guest::channel_end::ChannelEnd;
use crate::image::load::{Piece, Plan};
use alloc::vec::{self, Vec};
use core::ops::Range;
use core::slice;
use core::sync::atomic::Ordering::Relaxed;

/// Bytes that one step clears or writes, which takes some microseconds.
const STEP_BYTES: usize = 64 << 10;
const STEP_WORDS: usize = STEP_BYTES / 8;

/// The populating work that is left.
#[derive(Debug)]
pub struct Populating {
    /// Guest-physical range of the RAM that is not cleared yet.
    ram_bytes: Range<u64>,
    pieces: vec::IntoIter<Piece<'static>>,
    /// The piece that is being written, and the number of its bytes that are written.
    writing: Option<(Piece<'static>, usize)>,
    /// Words of the current channel that are not cleared yet; `channels` are those after it.
    shared: SharedWords,
    channels: slice::Iter<'static, ChannelEnd>,
}

/// Whether populating is finished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum PopulateProgress {
    /// Another step is needed.
    More,
    /// The memory is populated.
    Done,
}

impl Populating {
    /// All of the work: RAM, the pieces of `plan`, and `channels`.
    pub fn new(plan: Plan<'static>, ram: &impl GuestRam, channels: &'static [ChannelEnd]) -> Self {
        Self { ram_bytes: 0..ram.len_bytes(), pieces: plan.pieces.into_iter(), ..Self::of_channels(channels) }
    }

    /// Work that clears only the pages of `channels`.
    pub fn of_channels(channels: &'static [ChannelEnd]) -> Self {
        let pieces = Vec::new().into_iter();
        Self { ram_bytes: 0..0, pieces, writing: None, shared: &[], channels: channels.iter() }
    }

    /// The block that the next step would clear, if the guest does not have that block.
    pub fn missing_block(&self, ram: &impl GuestRam) -> Option<u64> {
        let n = self.ram_bytes.start / LARGE_PAGE_BYTES;
        (!self.ram_bytes.is_empty() && !ram.has_block(n)).then_some(n)
    }

    /// Whether no RAM has been cleared yet in this life of the guest.
    pub fn is_untouched(&self) -> bool {
        self.ram_bytes.start == 0 && !self.ram_bytes.is_empty()
    }

    /// Does the next step. The guest must not run meanwhile.
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
            // The plan was checked against this memory, and a guest that does not run loses no blocks.
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
