//! One vCPU as its run queue sees it, and its order among the vCPUs of its guest.

use super::params::Request;
use crate::base::time::{Ticks, Tsc};

/// Times are ordered inside a guest in units of 64 ticks: 2^52 of them are 3 years at 3 GHz.
const ORDER_SHIFT: u32 = 6;
/// Set in the key of a vCPU without a deadline: those with one come first.
const NO_DEADLINE: u64 = 1 << 52;
/// Most slices a vCPU sits out after overrunning extensions, as a power of two.
const MAX_BACK_OFF: u32 = 10;

/// Where a vCPU is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The slot is free.
    Free,
    /// It waits for an event, not for a CPU.
    Asleep,
    /// It waits for this CPU.
    Waiting,
    /// It has this CPU.
    Running,
}

/// One vCPU.
#[derive(Clone, Debug)]
pub struct Vcpu {
    /// Where it is.
    pub state: State,
    /// Index of its entity.
    pub entity: u16,
    /// Its leaf in the entity's tree.
    pub leaf: u16,
    /// What it asked for last.
    pub request: Request,
    /// Service that orders it among its siblings: what it got, raised at wake to where they are.
    pub order: Ticks,
    /// Ticks charged to it.
    pub run: Ticks,
    /// Ticks it waited for this CPU.
    pub wait: Ticks,
    /// Since when it waits.
    pub since: Tsc,
    /// Times this CPU was switched to it.
    pub switches: u64,
    /// Extensions it let run out.
    pub overruns: u64,
    /// Overruns since the last extension it ended by itself, as far as they count.
    back_off: u32,
    /// Extensions it is still refused.
    sit_out: u32,
}

impl Vcpu {
    /// A vCPU that never ran.
    pub const fn new(entity: u16, leaf: u16, request: Request, order: Ticks, now: Tsc) -> Self {
        Self {
            state: State::Asleep,
            entity,
            leaf,
            request,
            order,
            run: Ticks(0),
            wait: Ticks(0),
            since: now,
            switches: 0,
            overruns: 0,
            back_off: 0,
            sit_out: 0,
        }
    }

    /// Its place among its siblings: those with a deadline first, the earliest first; the others by service.
    #[inline]
    pub fn key(&self) -> u64 {
        match self.request.deadline {
            Some(deadline) => (deadline.0 >> ORDER_SHIFT).min(NO_DEADLINE - 1),
            None => NO_DEADLINE | (self.order.0 >> ORDER_SHIFT).min(NO_DEADLINE - 1),
        }
    }

    /// Whether a key says that its vCPU has a deadline.
    pub const fn key_has_deadline(key: u64) -> bool {
        key < NO_DEADLINE
    }

    /// Drops a deadline that has passed: the request it came with is over.
    #[inline]
    pub fn forget_past_deadline(&mut self, now: Tsc) {
        if self.request.deadline.is_some_and(|deadline| deadline <= now) {
            self.request.deadline = None;
        }
    }

    /// Whether it may have an extension now; each refusal brings the next grant nearer.
    pub const fn take_extension(&mut self) -> bool {
        let granted = self.sit_out == 0;
        self.sit_out = self.sit_out.saturating_sub(1);
        granted
    }

    /// It gave the CPU up inside an extension, as it should.
    pub const fn kept_its_word(&mut self) {
        self.back_off = 0;
    }

    /// It let an extension run out: the next one is 1, 3, 7, … slices further away.
    pub const fn overran(&mut self) {
        self.overruns = self.overruns.saturating_add(1);
        if self.back_off < MAX_BACK_OFF {
            self.back_off += 1;
        }
        self.sit_out = (1 << self.back_off) - 1;
    }
}
