//! The scheduler of one pCPU: weighted-fair sharing among guests, after DESIGN §5.
//!
//! A [`RunQueue`] decides which vCPU runs; it switches nothing, arms nothing and knows no hardware. Entities, one for each
//! guest, compete by WF²Q+: a request is eligible once the virtual clock has reached its start, and the eligible one with
//! the earliest deadline runs. The vCPUs of a guest are ordered inside its entity by what they publish. docs/src/scheduler.md
//! explains the algorithm and its theorem.
//!
//! After `prepare` or `add_*` nothing allocates. `wake`, `pick` and `block_current` walk trees of log4(n) levels; that a request becomes
//! eligible costs one more walk, once a request.

mod account;
#[cfg(any(test, feature = "testkit"))]
mod admit;
mod attach;
mod clock;
mod entity;
mod handover;
mod hints;
mod params;
mod pick;
mod place;
mod spans;
mod tree;
mod until;
mod vcpu;
mod waiting;

#[cfg(test)]
mod theorem;

use crate::base::time::{Ticks, Tsc};
use alloc::vec::Vec;
use clock::{Clock, MOVE_AT};
use entity::Entity;
use spans::Spans;
use tree::{MAX_LEAVES, Tree};
use vcpu::{State, Vcpu};

#[cfg(any(test, feature = "testkit"))]
pub use admit::{Carried, Full};
pub use attach::Departure;
pub use params::{Params, SliceRequest};

/// The index that stands for no entity or no vCPU.
const NONE: u16 = u16::MAX;

/// A vCPU known to a run queue: a dense index, reused after [`RunQueue::remove_vcpu`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Slot(pub u16);

/// An entity known to a run queue: a dense index, reused after [`RunQueue::remove_entity`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EntityId(pub u16);

/// The outcome of a wake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a timer may have to be armed earlier, or the CPU be given away now"]
pub enum Wake {
    /// The vCPU waited or ran already; nothing changed.
    AlreadyRunnable,
    /// The vCPU waits now.
    Queued {
        /// The time at which the caller must call [`RunQueue::pick`], maybe now; equal to [`RunQueue::slice_end`].
        decide_at: Tsc,
    },
    /// No vCPU runs: the caller must call [`RunQueue::pick`].
    Idle,
}

/// The service that a vCPU has received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Ticks that the vCPU ran, in the guest and in the hypervisor on its behalf.
    pub run: Ticks,
    /// Steal time: ticks that the vCPU waited for this CPU although it could have run.
    pub wait: Ticks,
    /// Service that the vCPU's guest is owed on this CPU, in ticks; negative when the guest is ahead.
    pub lag: i64,
    /// Number of critical-section extensions that the vCPU let run out.
    pub overruns: u64,
}

/// The runner's act since it was picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// The runner runs on.
    Going,
    /// The runner yielded; the next pick takes the CPU away.
    Yielded,
}

/// The laws on which the theorem rests. Tests switch one off at a time and see the theorem fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Law {
    /// A wake keeps debt.
    KeepDebtAtWake,
    /// A removed guest takes its debt along.
    #[cfg(any(test, feature = "testkit"))]
    CarryDebt,
    /// The weight of a removed guest stays admitted until its debt is passed.
    #[cfg(any(test, feature = "testkit"))]
    HoldWeight,
    /// An entity that is behind the clock keeps its deadline when it asks for less.
    KeepDeadlineWhenBehind,
    /// The clock that passes while one stands aside postpones its deadlines.
    Postpone,
    /// No entity gets further ahead of the clock than one request.
    BoundLead,
    /// An earlier deadline preempts.
    Preempt,
    /// The clock does not pass during time that is debited to guests other than the runner's.
    StopClockForDebit,
    /// Not a law: the fast path of a simple yield, which must make no difference.
    HandOver,
}

/// One pCPU's run queue: the guests and vCPUs that may run on it.
#[derive(Clone, Debug)]
pub struct RunQueue {
    params: Params,
    clock: Clock,
    /// The time up to which service is charged.
    charged_to: Tsc,
    entities: Vec<Entity>,
    vcpus: Vec<Vcpu>,
    /// Sum of the weights of the admitted entities.
    admitted: u32,
    /// Number of entities removed so far.
    #[cfg(any(test, feature = "testkit"))]
    removals: u64,
    /// Where the clock has to be seen to: its base must move, or one that left has no debt any more.
    attend_at: u64,
    /// Waiting entities by deadline, but for those known to be ahead of the clock.
    candidates: Tree<{ 2 * MAX_LEAVES }>,
    candidate_spans: Spans,
    /// Waiting entities that the clock has still to reach, by start. An entity gets here when it would have been chosen.
    early: Tree<{ 2 * MAX_LEAVES }>,
    early_spans: Spans,
    /// The vCPU on the CPU.
    runner: u16,
    /// The vCPU on whose account the runner runs: another vCPU after a directed yield.
    payer: u16,
    /// The entity on whose account the runner runs.
    paying: u16,
    turn: Turn,
    /// Whether the present turn is special: lent, extended, donated, or with an entity that stands aside.
    special: bool,
    /// The time at which the present turn began.
    turn_start: Tsc,
    /// Set while the runner has its turn although it is ahead of the clock, because another one yielded: until when.
    lent_until: Option<Tsc>,
    /// End of the extension of the present turn, when it was granted one.
    extended_to: Option<Tsc>,
    /// The entity that stands aside, and the clock when it stepped there.
    aside: u16,
    aside_since: u64,
    slice_end: Tsc,
    waiting: u32,
    #[cfg(test)]
    broken: Option<Law>,
}

impl RunQueue {
    /// An empty queue whose clock begins at tick 0.
    pub fn new(params: Params) -> Self {
        Self {
            params,
            clock: Clock::new(),
            charged_to: Tsc(0),
            entities: Vec::new(),
            vcpus: Vec::new(),
            admitted: 0,
            #[cfg(any(test, feature = "testkit"))]
            removals: 0,
            attend_at: MOVE_AT,
            candidates: Tree::new(),
            candidate_spans: Spans::new(),
            early: Tree::new(),
            early_spans: Spans::new(),
            runner: NONE,
            payer: NONE,
            paying: NONE,
            turn: Turn::Going,
            special: false,
            turn_start: Tsc(0),
            lent_until: None,
            extended_to: None,
            aside: NONE,
            aside_since: 0,
            slice_end: Tsc::NEVER,
            waiting: 0,
            #[cfg(test)]
            broken: None,
        }
    }

    /// Whether a law is switched off, which only tests can.
    #[cfg(test)]
    fn is_broken(&self, law: Law) -> bool {
        self.broken == Some(law)
    }

    /// Whether a law is switched off, which only tests can.
    #[cfg(not(test))]
    #[inline(always)]
    #[expect(clippy::unused_self, reason = "the same call as under test")]
    const fn is_broken(&self, _law: Law) -> bool {
        false
    }

    /// The vCPU that has the CPU.
    pub fn current(&self) -> Option<Slot> {
        (self.runner != NONE).then_some(Slot(self.runner))
    }

    /// The time at which the caller must call [`Self::pick`]; [`Tsc::NEVER`] when no vCPU waits: then the caller needs no timer.
    pub const fn slice_end(&self) -> Tsc {
        self.slice_end
    }

    /// Whether any vCPU waits for this CPU: drives YIELD_PLEASE.
    pub const fn wanted(&self) -> bool {
        self.waiting != 0
    }

    /// The number of vCPUs that wait for this CPU, without the runner.
    pub const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Makes a vCPU runnable. A vCPU that is runnable already keeps the request with which it was queued.
    pub fn wake(&mut self, slot: Slot, request: SliceRequest, now: Tsc) -> Wake {
        let Some(vcpu) = self.vcpus.get(usize::from(slot.0)) else { return Wake::AlreadyRunnable };
        if vcpu.state != State::Asleep {
            return Wake::AlreadyRunnable;
        }
        let entity = vcpu.entity;
        self.charge(now);
        self.enqueue_woken(slot.0, entity, request, now);
        if self.runner == NONE {
            return Wake::Idle;
        }
        self.set_slice_end(now);
        Wake::Queued { decide_at: self.slice_end }
    }

    /// Puts the runner to sleep; the caller must call [`Self::pick`] next. Nothing happens when no vCPU runs.
    pub fn block_current(&mut self, now: Tsc) {
        self.pass(now);
        if self.waiting == 0 {
            // The clock went with the runner; the next decision would not know.
            self.catch_up();
        }
        if self.extended_to.is_some() {
            self.settle_extension(true, now);
        }
        let runner = core::mem::replace(&mut self.runner, NONE);
        self.payer = NONE;
        self.turn = Turn::Going;
        self.slice_end = Tsc::NEVER;
        let Some(vcpu) = self.vcpus.get_mut(usize::from(runner)) else { return };
        vcpu.state = State::Asleep;
        let entity = vcpu.entity;
        self.sleep_if_done(entity);
        if self.paying != entity {
            self.sleep_if_done(self.paying);
        }
    }
}
