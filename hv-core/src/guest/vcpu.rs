//! One vCPU, as the processor that holds it sees it. The holder has `&mut Vcpu`; every other processor sees its [`VcpuShared`] only.

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

/// Whether a vCPU rests, and which events end its rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// The vCPU does not rest.
    Awake,
    /// In HLT: only an interrupt, an NMI or a reset ends it.
    Halted,
    /// In BLOCK: any wake-up ends it, and the vCPU reads its events by itself.
    Blocked,
}

/// A vCPU.
pub struct Vcpu<P: Platform> {
    /// The architectural state, in the vendor's format.
    pub state: State<P>,
    /// The part that every processor may read.
    pub shared: &'static VcpuShared,
    /// The guest that the vCPU belongs to.
    pub guest: &'static Guest<P::Ram>,
    /// The CPUID that the vCPU sees.
    pub cpuid: Box<Table>,
    /// The control-register bits that the vCPU may set.
    pub allowed: Allowed,
    /// The emulated local APIC.
    pub lapic: Lapic,
    /// The vector of the interrupt that tells the vCPU to look at its events; 0 = none.
    pub event_vector: u8,
    /// The value of next_wake at the last look, a guest TSC value; a value that differs is new.
    pub seen_wake: u64,
    /// The value of next_wake that fired last; the same value does not fire twice.
    pub fired_wake: u64,
    /// The parts of KVM's interface that the vCPU has set up.
    pub kvm: Kvm,
    /// Whether it rests.
    pub rest: Rest,
    /// An NMI waits for the IRET of the NMI before it, and does not end HLT.
    pub nmi_blocked: bool,
    /// Bit map of the events that end the vCPU's BLOCK.
    pub block_mask: u64,
    /// The value that a full guest last wrote to the upper mark port.
    pub mark_value: u32,
    /// The time at which the vCPU's statistics are published again.
    pub publish_after: Tsc,
    /// The vCPU's next timer, while no processor holds it.
    pub timer: Tsc,
    /// The state that the vCPU carries from one run queue to the next, while no processor holds it.
    pub departure: Departure,
}

impl<P: Platform> Vcpu<P> {
    /// Makes a vCPU that is not started.
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

    /// Puts the vCPU into its state at `start`. Armed timers and pending events are forgotten; counters stay.
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

    /// Counts a stay in guest mode from `entered` to `left` that ended with an exit of `class`.
    #[inline]
    pub fn note_exit(&self, class: ExitClass, entered: Tsc, left: Tsc) {
        let tally = &self.shared.tally;
        tally.guest_ticks.add(left.0.wrapping_sub(entered.0));
        tally.note_exit(class);
    }

    /// Counts the time in the hypervisor, `from` … `to`, that an exit of `class` caused.
    #[inline]
    pub fn note_hypervisor(&self, class: ExitClass, from: Tsc, to: Tsc) {
        self.shared.tally.hv_ticks[class as usize].add(to.0.wrapping_sub(from.0));
    }
}
