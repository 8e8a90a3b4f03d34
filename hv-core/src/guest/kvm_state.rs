//! KVM's paravirtual interface: the part that CPUID announces to a guest, and the part that a vCPU has set up. `exit::kvm` implements it.

/// EBX, ECX, EDX of the first leaf: `KVMKVMKVM` and zeroes.
pub const SIGNATURE: [u32; 3] = [0x4b4d_564b, 0x564b_4d56, 0x4d];
/// The last CPUID leaf of KVM's range.
pub const LAST_LEAF: u32 = 0x4000_0001;

/// EAX of the second leaf: the feature bits of kvm_para.h. EDX, the hints, is zero: no vCPU has a processor to itself (REALTIME).
pub mod feature {
    /// kvmclock by its old MSRs, 0x11 and 0x12.
    pub const CLOCK_SOURCE: u32 = 1 << 0;
    /// The guest need not write port 0x80 to delay I/O.
    pub const NOP_IO_DELAY: u32 = 1 << 1;
    /// kvmclock by its new MSRs.
    pub const CLOCK_SOURCE_2: u32 = 1 << 3;
    /// The steal-time record, which `exit::kvm::steal` writes.
    pub const STEAL_TIME: u32 = 1 << 5;
    /// EOI by a store to memory, which `exit::kvm::eoi` implements.
    pub const PV_EOI: u32 = 1 << 6;
    /// HLT with interrupts off waits for KICK_CPU.
    pub const PV_UNHALT: u32 = 1 << 7;
    /// A guest asks a vCPU that is off CPU to flush its TLB by a flag in that vCPU's steal-time record.
    pub const PV_TLB_FLUSH: u32 = 1 << 9;
    /// The SEND_IPI hypercall.
    pub const PV_SEND_IPI: u32 = 1 << 11;
    /// The SCHED_YIELD hypercall.
    pub const PV_SCHED_YIELD: u32 = 1 << 13;
    /// The guest may trust kvmclock's stable bit.
    pub const STABLE_CLOCK: u32 = 1 << 24;
}

/// The features that every guest in KVM mode has.
pub const FEATURES: u32 = feature::CLOCK_SOURCE
    | feature::NOP_IO_DELAY
    | feature::CLOCK_SOURCE_2
    | feature::STEAL_TIME
    | feature::PV_EOI
    | feature::PV_UNHALT
    | feature::PV_TLB_FLUSH
    | feature::PV_SEND_IPI
    | feature::PV_SCHED_YIELD;

/// The part of KVM's interface that a vCPU has set up; zeroes before it has, and in the other modes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kvm {
    /// The wall-clock MSR as the guest last wrote it: the address of the wall clock.
    pub wall_clock: u64,
    /// The system-time MSR as the guest wrote it: the address of the vCPU's clock.
    pub system_time: u64,
    /// The steal-time MSR as the guest wrote it: the address of the vCPU's steal-time record.
    pub steal_time: u64,
    /// The PV EOI MSR as the guest wrote it: the address of the vCPU's end-of-interrupt flag.
    pub pv_eoi: u64,
    /// Whether the end-of-interrupt flag in the guest's memory is set: the guest may end the interrupt there.
    pub eoi_is_open: bool,
    /// Whether a KICK_CPU came while the vCPU was not halted.
    pub kicked: bool,
}

impl Kvm {
    /// Takes the latched kick; true when there was one, which ends the next HLT at once.
    pub const fn take_kick(&mut self) -> bool {
        core::mem::replace(&mut self.kicked, false)
    }

    /// Latches a kick that came while the vCPU was not halted.
    pub const fn latch_kick(&mut self) {
        self.kicked = true;
    }
}
