//! A run queue's state of one vCPU, and the vCPU's order among its siblings, the vCPUs of its guest.

use super::params::SliceRequest;
use super::tree::word;
use crate::base::time::{Ticks, Tsc};
use crate::policy::balance::PART;

/// Set in the word of a vCPU without a deadline: those with one come first. 2^62 ticks are 48 years at 3 GHz.
const NO_DEADLINE: u64 = 1 << 62;
/// Digits a service is shifted left in a word, of which the lowest ten bits are lost: siblings are told apart from 64 ticks on.
const ORDER_SHIFT: u32 = 4;
/// Services are ordered up to here: 2.8 years at 3 GHz. The queue keeps them below half of it.
pub const ORDER_LIMIT: u64 = 1 << 58;
/// Most extensions a vCPU sits out after letting some run out, as a power of two.
const MAX_BACK_OFF: u32 = 10;

/// A vCPU's state in the run queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// The slot is free.
    Free,
    /// The vCPU waits for an event, not for a CPU.
    Asleep,
    /// The vCPU waits for this CPU.
    Waiting,
    /// The vCPU has this CPU.
    Running,
}

/// One vCPU.
#[derive(Clone, Debug)]
#[repr(align(128))]
pub struct Vcpu {
    /// The vCPU's state.
    pub state: State,
    /// Index of the vCPU's entity.
    pub entity: u16,
    /// The vCPU's leaf in its entity's tree.
    pub leaf: u16,
    /// Length of the vCPU's last request, in ticks.
    pub length: Ticks,
    /// Deadline of the vCPU's last request; [`Tsc::NEVER`] is none.
    pub deadline: Tsc,
    /// Service that orders the vCPU among its siblings: the service it received, raised at wake to theirs.
    pub order: Ticks,
    /// Ticks charged to the vCPU.
    pub run: Ticks,
    /// Ticks that the vCPU waited for this CPU.
    pub wait: Ticks,
    /// The time since which the vCPU waits.
    pub since: Tsc,
    /// Number of extensions that the vCPU let run out.
    pub overruns: u64,
    /// Overruns since the last extension it ended by itself, as far as they count.
    back_off: u32,
    /// Number of extensions that the vCPU is still refused.
    sit_out: u32,
    /// Average part of the time in which the vCPU ran or waited, in [`PART`]s.
    pub presence: u32,
    /// When that was worked out last, and for how long it had run or waited by then.
    counted: (Tsc, u64),
}

impl Vcpu {
    /// A vCPU that never ran.
    pub const fn new(entity: u16, leaf: u16, length: Ticks, order: Ticks, now: Tsc) -> Self {
        Self {
            state: State::Asleep,
            entity,
            leaf,
            length,
            deadline: Tsc::NEVER,
            order,
            run: Ticks(0),
            wait: Ticks(0),
            since: now,
            overruns: 0,
            back_off: 0,
            sit_out: 0,
            presence: PART,
            counted: (now, 0),
        }
    }

    /// Takes over the vCPU's request, whose length is clamped already.
    #[inline]
    pub fn ask(&mut self, request: SliceRequest, length: Ticks) {
        self.length = length;
        self.deadline = request.deadline.unwrap_or(Tsc::NEVER);
    }

    /// The vCPU's place among its siblings: those with a deadline come first, the earliest first; the others follow by service.
    #[inline]
    pub const fn word(&self) -> u64 {
        let order = if self.order.0 < ORDER_LIMIT { self.order.0 } else { ORDER_LIMIT - 1 };
        let time = if self.deadline.0 < NO_DEADLINE {
            self.deadline.0
        } else {
            NO_DEADLINE | (order << ORDER_SHIFT)
        };
        word(time, self.leaf)
    }

    /// Whether a word says that its vCPU has a deadline.
    #[inline]
    pub const fn has_deadline(word: u64) -> bool {
        word < NO_DEADLINE
    }

    /// Drops a deadline that has passed: the request it came with is over.
    #[inline]
    pub const fn forget_past_deadline(&mut self, now: Tsc) {
        if self.deadline.0 <= now.0 {
            self.deadline = Tsc::NEVER;
        }
    }

    /// Notes that the vCPU no longer waits.
    #[inline]
    pub const fn stop_waiting(&mut self, now: Tsc) {
        self.wait.0 = self.wait.0.wrapping_add(now.since(self.since).0);
    }

    /// Goes on where another queue's left off.
    pub const fn resume(&mut self, before: &Self) {
        (self.run, self.wait, self.overruns) = (before.run, before.wait, before.overruns);
        (self.back_off, self.sit_out) = (before.back_off, before.sit_out);
        (self.presence, self.counted) = (before.presence, before.counted);
    }

    /// Works out how present it is: a quarter of the way each time, by all the time since the last time, so that nothing depends on what
    /// it does at a moment. A time shorter than `least` is left for the next time.
    pub fn note_presence(&mut self, least: Ticks, now: Tsc) {
        let waits = if self.state == State::Waiting { now.since(self.since).0 } else { 0 };
        let wanted = self.run.0.wrapping_add(self.wait.0).wrapping_add(waits);
        let passed = now.since(self.counted.0).0;
        if passed >= least.0 {
            let parts = wanted.wrapping_sub(self.counted.1).saturating_mul(PART.into()) / passed.max(1);
            self.presence = (3 * self.presence + u32::try_from(parts).unwrap_or(PART).min(PART)) / 4;
            self.counted = (now, wanted);
        }
    }

    /// Whether the vCPU may have an extension now; each refusal brings the next grant nearer.
    pub const fn take_extension(&mut self) -> bool {
        let granted = self.sit_out == 0;
        self.sit_out = self.sit_out.saturating_sub(1);
        granted
    }

    /// Notes that the vCPU gave up the CPU inside an extension, as it should.
    pub const fn kept_its_word(&mut self) {
        self.back_off = 0;
    }

    /// Notes that the vCPU let an extension run out: the next 1, 3, 7, … extensions are refused.
    pub const fn overran(&mut self) {
        self.overruns = self.overruns.saturating_add(1);
        if self.back_off < MAX_BACK_OFF {
            self.back_off += 1;
        }
        self.sit_out = (1 << self.back_off) - 1;
    }
}
