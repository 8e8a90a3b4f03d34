//! Frames that wait at a port.

use super::MAX_FRAME_BYTES;
use alloc::boxed::Box;
use heapless::Vec;

/// Frames that an inbox holds.
pub const INBOX_FRAMES: usize = 64;

type Frame = Vec<u8, MAX_FRAME_BYTES>;

/// A ring of frames.
#[derive(Debug)]
pub struct Inbox {
    /// [`INBOX_FRAMES`] of them.
    frames: Box<[Frame]>,
    first: usize,
    waiting: usize,
}

impl Inbox {
    pub fn new() -> Self {
        let frames = alloc::vec![Frame::new(); INBOX_FRAMES].into_boxed_slice();
        Self { frames, first: 0, waiting: 0 }
    }

    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Puts a frame last. Returns whether there was room for it.
    pub fn push(&mut self, frame: &[u8]) -> bool {
        let last = (self.first + self.waiting) % INBOX_FRAMES;
        let place = self.frames.get_mut(last).filter(|_| self.waiting < INBOX_FRAMES);
        let taken = place.is_some_and(|place| {
            place.clear();
            place.extend_from_slice(frame).is_ok()
        });
        self.waiting += usize::from(taken);
        taken
    }

    /// Copies the first frame. Returns its length.
    pub fn first(&self, into: &mut [u8; MAX_FRAME_BYTES]) -> Option<usize> {
        let frame = self.frames.get(self.first).filter(|_| self.waiting > 0)?;
        into.iter_mut().zip(frame).for_each(|(to, from)| *to = *from);
        Some(frame.len())
    }

    /// Drops the first frame, if there is one.
    pub fn drop_first(&mut self) {
        if self.waiting > 0 {
            self.first = (self.first + 1) % INBOX_FRAMES;
            self.waiting -= 1;
        }
    }

    pub const fn clear(&mut self) {
        self.waiting = 0;
    }
}
