//! One vCPU, as the processor that holds it sees it. Whoever has `&mut Vcpu` owns it; everybody else has its
//! [`VcpuShared`].

use crate::base::hardware::GuestRam;
use crate::base::time::Tsc;
use crate::dispatch::cpuid::Table;
use crate::dispatch::device::lapic::Lapic;
use crate::dispatch::guest::Guest;
use crate::dispatch::next::StartRequest;
use crate::dispatch::vt::{Start, VirtualCpu};
use crate::policy::publish::VcpuShared;
use crate::policy::trace::{ExitClass, GuestCounters};
use alloc::boxed::Box;

/// Bits that an exit's class takes in the record of the last exits.
const CLASS_BITS: u32 = 4;
const _: () = assert!(ExitClass::COUNT <= 1 << CLASS_BITS);

/// Whether a vCPU rests, and what ends that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// It does not.
    Awake,
    /// In HLT: only an interrupt, an NMI or a reset ends it.
    Halted,
    /// In BLOCK: anything ends it, and it looks at its events by itself.
    Blocked,
}

/// A vCPU.
pub struct Vcpu<S, R: GuestRam + 'static> {
    /// Architectural state, the vendor's.
    pub state: S,
    /// What everybody may know.
    pub shared: &'static VcpuShared,
    /// Whose it is.
    pub guest: &'static Guest<R>,
    /// What CPUID answers.
    pub cpuid: Box<Table>,
    /// The emulated local APIC.
    pub lapic: Lapic,
    /// The vector that says "look at your events"; 0 = none.
    pub event_vector: u8,
    /// The next_wake that is queued.
    pub seen_wake: u64,
    /// A next_wake that fired; the same value does not fire twice.
    pub fired_wake: u64,
    /// How the vCPUs start that it asked to be started.
    pub start_request: Option<StartRequest>,
    /// Whether it rests.
    pub rest: Rest,
    /// Events that end its BLOCK.
    pub block_mask: u64,
    /// What a full guest wrote to the upper mark port.
    pub mark_value: u32,
    /// From when on its statistics are published again.
    pub publish_after: Tsc,
    /// What it has caused.
    pub counters: GuestCounters,
    /// Classes of the last sixteen exits, the latest in the lowest bits: a shift and an OR on the exit path.
    recent: u64,
}

impl<S, R: GuestRam> Vcpu<S, R> {
    /// A vCPU that is not started.
    pub fn new(
        state: S,
        shared: &'static VcpuShared,
        guest: &'static Guest<R>,
        cpuid: Box<Table>,
        lapic: Lapic,
    ) -> Self {
        Self {
            state,
            shared,
            guest,
            cpuid,
            lapic,
            event_vector: 0,
            seen_wake: 0,
            fired_wake: 0,
            start_request: None,
            rest: Rest::Awake,
            block_mask: 0,
            mark_value: 0,
            publish_after: Tsc(0),
            counters: GuestCounters::default(),
            recent: 0,
        }
    }

    /// Puts it into its state at `start`; what was armed or pending is forgotten, what it caused is not.
    pub fn begin(&mut self, start: Start)
    where
        S: VirtualCpu,
    {
        self.state.reset(start);
        self.event_vector = 0;
        self.seen_wake = 0;
        self.fired_wake = 0;
        self.rest = Rest::Awake;
    }

    /// Books a turn in guest mode that ended with an exit of `class`.
    #[inline]
    pub fn note_exit(&mut self, class: ExitClass, entered: Tsc, left: Tsc) {
        self.counters.guest_ticks += left.0.wrapping_sub(entered.0);
        self.counters.exits[class as usize] += 1;
        self.recent = self.recent << CLASS_BITS | class as u64;
    }

    /// Books time in the hypervisor that an exit of `class` led to.
    #[inline]
    pub fn note_hypervisor(&mut self, class: ExitClass, from: Tsc, to: Tsc) {
        self.counters.hv_ticks[class as usize] += to.0.wrapping_sub(from.0);
    }

    /// The last exits, the latest first.
    pub fn recent_exits(&self) -> impl Iterator<Item = ExitClass> {
        let mask = (1 << CLASS_BITS) - 1;
        let classes =
            (0..u64::BITS).step_by(CLASS_BITS as usize).map(move |shift| self.recent >> shift & mask);
        classes.filter_map(|class| ExitClass::ALL.get(usize::try_from(class).ok()?).copied()).take(8)
    }
}
