//! One step of a device's work: its queues, and how much it may still do.

use super::Progress;
use super::queue::{Chain, Malformed, Notify, Queue};
use crate::base::hardware::GuestRam;

/// Chains that one step takes up: some microseconds' work even where each has as many buffers as it may.
pub const STEP_CHAINS: u32 = 16;
/// Bytes of data that one step moves: some microseconds' work.
pub const STEP_BYTES: usize = 64 << 10;

/// What a device reaches in one step.
#[derive(Debug)]
pub struct Io<'a, R> {
    ram: &'a R,
    queues: &'a mut [Queue],
    /// Bit n: queue n may have something.
    noted: &'a mut u32,
    notify: Notify,
    chains: u32,
    bytes: usize,
    progress: Progress,
}

impl<'a, R: GuestRam> Io<'a, R> {
    /// A step that has done nothing.
    pub const fn new(ram: &'a R, queues: &'a mut [Queue], noted: &'a mut u32) -> Self {
        Self {
            ram,
            queues,
            noted,
            notify: Notify::Unwanted,
            chains: STEP_CHAINS,
            bytes: STEP_BYTES,
            progress: Progress::Done,
        }
    }

    /// The guest's memory.
    pub const fn ram(&self) -> &'a R {
        self.ram
    }

    /// Whether something was left for the next step.
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether the driver wants an interrupt for what was pushed.
    pub const fn notify(&self) -> Notify {
        self.notify
    }

    /// Leaves something for the next step.
    pub const fn postpone(&mut self) {
        self.progress = Progress::More;
    }

    /// Takes the next chain of a queue, if there is one and the step is not over. An empty queue is looked at again after the
    /// driver notified it.
    ///
    /// # Errors
    ///
    /// [`Malformed`], as [`Queue::pop`].
    pub fn pop(&mut self, index: u16) -> Result<Option<Chain>, Malformed> {
        let bit = 1_u32.checked_shl(u32::from(index)).unwrap_or(0);
        let Some(queue) = self.queues.get_mut(usize::from(index)).filter(|_| *self.noted & bit != 0) else {
            return Ok(None);
        };
        if self.chains == 0 || self.bytes == 0 {
            self.progress = Progress::More;
            return Ok(None);
        }
        let mut chain = queue.pop(self.ram)?;
        if chain.is_none() && queue.arm(self.ram)? {
            chain = queue.pop(self.ram)?;
        }
        if chain.is_some() {
            self.chains -= 1;
        } else {
            *self.noted &= !bit;
        }
        Ok(chain)
    }

    /// Gives a chain back to its queue, as [`Queue::push`].
    ///
    /// # Errors
    ///
    /// [`Malformed`], as [`Queue::push`].
    pub fn push(&mut self, index: u16, chain: Chain, written_bytes: u32) -> Result<(), Malformed> {
        if let Some(queue) = self.queues.get_mut(usize::from(index))
            && queue.push(self.ram, chain, written_bytes)? == Notify::Wanted
        {
            self.notify = Notify::Wanted;
        }
        Ok(())
    }

    /// Takes up to `wanted` bytes from what this step may move. None are left where it is over.
    pub fn grant(&mut self, wanted: usize) -> usize {
        let granted = wanted.min(self.bytes);
        self.bytes -= granted;
        if granted < wanted {
            self.progress = Progress::More;
        }
        granted
    }
}
