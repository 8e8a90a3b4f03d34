//! One vCPU, as the processor that holds it sees it. Whoever has `&mut Vcpu` owns it; everybody else has its
//! [`VcpuShared`].

use crate::base::control::Start;
use crate::base::time::Tsc;
use crate::device::lapic::Lapic;
use crate::guest::cpuid::Table;
use crate::guest::guest::Guest;
use crate::guest::kvm_state::Kvm;
use crate::guest::platform::{Platform, State};
use crate::guest::registers::Allowed;
use crate::guest::seam::VirtualCpu;
use crate::policy::sched::Departure;
use crate::policy::trace::ExitClass;
use crate::policy::vcpu_shared::VcpuShared;
use alloc::boxed::Box;

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
pub struct Vcpu<P: Platform> {
    /// Architectural state, the vendor's.
    pub state: State<P>,
    /// What everybody may know.
    pub shared: &'static VcpuShared,
    /// Whose it is.
    pub guest: &'static Guest<P::Ram>,
    /// What CPUID answers.
    pub cpuid: Box<Table>,
    /// What it may set of control registers.
    pub allowed: Allowed,
    /// The emulated local APIC.
    pub lapic: Lapic,
    /// The vector that says "look at your events"; 0 = none.
    pub event_vector: u8,
    /// The next_wake that is queued.
    pub seen_wake: u64,
    /// A next_wake that fired; the same value does not fire twice.
    pub fired_wake: u64,
    /// What it uses of KVM's interface.
    pub kvm: Kvm,
    /// Whether it rests.
    pub rest: Rest,
    /// An NMI waits for the IRET of the one before, and ends no HLT.
    pub nmi_blocked: bool,
    /// Events that end its BLOCK.
    pub block_mask: u64,
    /// What a full guest wrote to the upper mark port.
    pub mark_value: u32,
    /// From when on its statistics are published again.
    pub publish_after: Tsc,
    /// When it wants to be looked at, while no processor holds it.
    pub timer: Tsc,
    /// What it takes from one run queue to the next, while no processor holds it.
    pub departure: Departure,
}

impl<P: Platform> Vcpu<P> {
    /// A vCPU that is not started.
    pub fn new(
        state: State<P>,
        shared: &'static VcpuShared,
        guest: &'static Guest<P::Ram>,
        cpuid: Box<Table>,
        lapic: Lapic,
    ) -> Self {
        Self {
            state,
            shared,
            guest,
            allowed: Allowed::by(&cpuid),
            cpuid,
            lapic,
            event_vector: 0,
            seen_wake: 0,
            fired_wake: 0,
            kvm: Kvm::default(),
            rest: Rest::Awake,
            nmi_blocked: false,
            block_mask: 0,
            mark_value: 0,
            publish_after: Tsc(0),
            timer: Tsc::NEVER,
            departure: Departure::default(),
        }
    }

    /// Puts it into its state at `start`; what was armed or pending is forgotten, what it caused is not.
    pub fn begin(&mut self, start: Start) {
        self.state.reset(start);
        self.event_vector = 0;
        self.seen_wake = 0;
        self.fired_wake = 0;
        self.kvm = Kvm::default();
        self.rest = Rest::Awake;
        self.nmi_blocked = false;
        self.block_mask = 0;
        self.mark_value = 0;
    }

    /// Books a turn in guest mode that ended with an exit of `class`.
    #[inline]
    pub fn note_exit(&self, class: ExitClass, entered: Tsc, left: Tsc) {
        let tally = &self.shared.tally;
        tally.guest_ticks.add(left.0.wrapping_sub(entered.0));
        tally.note_exit(class);
    }

    /// Books time in the hypervisor that an exit of `class` led to.
    #[inline]
    pub fn note_hypervisor(&self, class: ExitClass, from: Tsc, to: Tsc) {
        self.shared.tally.hv_ticks[class as usize].add(to.0.wrapping_sub(from.0));
    }
}
