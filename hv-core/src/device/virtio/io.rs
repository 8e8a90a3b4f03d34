//! One step of a device's work: its queues, and how much it may still do.

use super::ServeProgress;
use super::queue::{Chain, Malformed, Notify, Queue};
use crate::base::hardware::GuestRam;

/// Chains that one step takes up. One with many buffers counts for several: [`CHAIN_SEGMENTS`].
pub const STEP_CHAINS: u32 = 16;
/// Buffers, of any length, that a chain has for nothing: following them is what it costs to take a chain up.
pub const CHAIN_SEGMENTS: usize = 16;
/// Bytes of data that one step moves: some microseconds' work.
pub const STEP_BYTES: usize = 64 << 10;

/// What all devices of a guest together may do in one step.
#[derive(Debug)]
pub struct Budget {
    chains: u32,
    bytes: usize,
}

impl Budget {
    /// A step that has done nothing.
    pub const fn of_step() -> Self {
        Self { chains: STEP_CHAINS, bytes: STEP_BYTES }
    }

    /// Nothing more is done in this step.
    pub const fn exhaust(&mut self) {
        *self = Self { chains: 0, bytes: 0 };
    }
}

/// What a device did with a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Answer {
    /// All that it asks for; so many bytes were written from the start of its writable part.
    Done(u32),
    /// A part. The device goes on in the next step, from where it says itself.
    Later,
}

/// Whether there may be another chain for this step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Turn {
    /// One was answered.
    Answered,
    /// There is none, or it or the step waits.
    Over,
}

/// What a device reaches in one step.
#[derive(Debug)]
pub struct Io<'a, R> {
    ram: &'a R,
    queues: &'a mut [Queue],
    /// Bit n: queue n may have something.
    noted: &'a mut u32,
    notify: Notify,
    budget: &'a mut Budget,
    progress: ServeProgress,
}

impl<'a, R: GuestRam> Io<'a, R> {
    /// The part of a step that is one device's.
    pub const fn new(
        ram: &'a R,
        queues: &'a mut [Queue],
        noted: &'a mut u32,
        budget: &'a mut Budget,
    ) -> Self {
        Self { ram, queues, noted, notify: Notify::Unwanted, budget, progress: ServeProgress::Done }
    }

    /// The guest's memory.
    pub const fn ram(&self) -> &'a R {
        self.ram
    }

    /// Whether something was left for the next step.
    pub const fn progress(&self) -> ServeProgress {
        self.progress
    }

    /// Whether the driver wants an interrupt for what was given back.
    pub const fn notify(&self) -> Notify {
        self.notify
    }

    /// Has `serve` answer the next chain of a queue, if there is one and the step is not over, and gives it back to the driver.
    /// What `serve` is not done with, or fails at, is the next chain of the queue again: a failure loses nothing, and memory that
    /// was not there may be there then. An empty queue is looked at again after the driver notified it.
    ///
    /// # Errors
    ///
    /// [`Malformed`], of the queue or from `serve`.
    pub fn answer(
        &mut self,
        index: u16,
        serve: impl FnOnce(&mut Self, &Chain) -> Result<Answer, Malformed>,
    ) -> Result<Turn, Malformed> {
        let Some(chain) = self.take(index)? else { return Ok(Turn::Over) };
        let answer = serve(self, &chain);
        let Some(queue) = self.queues.get_mut(usize::from(index)) else { return Ok(Turn::Over) };
        match answer {
            Ok(Answer::Done(written)) => {
                if queue.push(self.ram, chain, written)? == Notify::Wanted {
                    self.notify = Notify::Wanted;
                }
                Ok(Turn::Answered)
            }
            Ok(Answer::Later) => {
                queue.keep(chain);
                self.progress = ServeProgress::More;
                Ok(Turn::Over)
            }
            Err(malformed) => {
                queue.keep(chain);
                Err(malformed)
            }
        }
    }

    /// Gives back what an earlier step could not, as the memory of the ring was not there.
    ///
    /// # Errors
    ///
    /// [`Malformed`], of a queue.
    pub fn catch_up(&mut self) -> Result<(), Malformed> {
        for queue in &mut *self.queues {
            if queue.push_again(self.ram)? == Notify::Wanted {
                self.notify = Notify::Wanted;
            }
        }
        Ok(())
    }

    fn take(&mut self, index: u16) -> Result<Option<Chain>, Malformed> {
        let bit = 1_u32.checked_shl(u32::from(index)).unwrap_or(0);
        let Some(queue) = self.queues.get_mut(usize::from(index)).filter(|_| *self.noted & bit != 0) else {
            return Ok(None);
        };
        if self.budget.chains == 0 || self.budget.bytes == 0 {
            self.progress = ServeProgress::More;
            return Ok(None);
        }
        let mut chain = queue.take(self.ram)?;
        if chain.is_none() && queue.arm(self.ram)? {
            chain = queue.take(self.ram)?;
        }
        match &chain {
            Some(chain) => self.budget.chains = self.budget.chains.saturating_sub(cost(chain)),
            None => *self.noted &= !bit,
        }
        Ok(chain)
    }

    /// Takes up to `wanted` bytes from what this step may move. None are left where it is over.
    pub fn grant(&mut self, wanted: usize) -> usize {
        let granted = wanted.min(self.budget.bytes);
        self.budget.bytes -= granted;
        if granted < wanted {
            self.progress = ServeProgress::More;
        }
        granted
    }

    /// Charges work that was done and that nobody could foresee.
    pub const fn charge(&mut self, bytes: usize) {
        self.budget.bytes = self.budget.bytes.saturating_sub(bytes);
    }
}

/// What it costs to take a chain up.
fn cost(chain: &Chain) -> u32 {
    let segments = chain.readable().len() + chain.writable().len();
    u32::try_from(1 + segments / (CHAIN_SEGMENTS + 1)).unwrap_or(u32::MAX)
}
