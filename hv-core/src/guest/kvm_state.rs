//! What a guest sees of KVM's interface by CPUID, and what a vCPU has set up of it. `exit::kvm` answers it.

/// EBX, ECX, EDX of the first leaf: `KVMKVMKVM` and zeroes.
pub const SIGNATURE: [u32; 3] = [0x4b4d_564b, 0x564b_4d56, 0x4d];
/// The last leaf.
pub const LAST_LEAF: u32 = 0x4000_0001;

/// EAX of the second leaf, by its bits in kvm_para.h. EDX, the hints, is zero: nobody has a processor for itself (REALTIME).
pub mod feature {
    /// The clock by its first MSRs, 0x11 and 0x12.
    pub const CLOCK_SOURCE: u32 = 1 << 0;
    /// Port 0x80 need not be written to pass time.
    pub const NOP_IO_DELAY: u32 = 1 << 1;
    /// The clock by its own MSRs.
    pub const CLOCK_SOURCE_2: u32 = 1 << 3;
    /// See `exit::kvm::steal`.
    pub const STEAL_TIME: u32 = 1 << 5;
    /// See `exit::kvm::eoi`.
    pub const PV_EOI: u32 = 1 << 6;
    /// HLT with interrupts off waits for KICK_CPU.
    pub const PV_UNHALT: u32 = 1 << 7;
    /// A vCPU that is off CPU is asked to flush in its steal-time record.
    pub const PV_TLB_FLUSH: u32 = 1 << 9;
    /// SEND_IPI.
    pub const PV_SEND_IPI: u32 = 1 << 11;
    /// SCHED_YIELD.
    pub const PV_SCHED_YIELD: u32 = 1 << 13;
    /// The clock's stable bit is to be believed.
    pub const STABLE_CLOCK: u32 = 1 << 24;
}

/// What of it every guest in this mode has.
pub const FEATURES: u32 = feature::CLOCK_SOURCE
    | feature::NOP_IO_DELAY
    | feature::CLOCK_SOURCE_2
    | feature::STEAL_TIME
    | feature::PV_EOI
    | feature::PV_UNHALT
    | feature::PV_TLB_FLUSH
    | feature::PV_SEND_IPI
    | feature::PV_SCHED_YIELD;

/// What a vCPU has set up, as it wrote it; zeroes for all others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kvm {
    /// Where the wall clock was last written, as the guest wrote it.
    pub wall_clock: u64,
    /// Where its clock is, as the guest wrote it.
    pub system_time: u64,
    /// Where its steal-time record is, as the guest wrote it.
    pub steal_time: u64,
    /// Where its end-of-interrupt flag is, as the guest wrote it.
    pub pv_eoi: u64,
    /// The flag in the guest's memory says that an interrupt may end there.
    pub eoi_is_open: bool,
    /// A KICK_CPU that came while it was not halted.
    pub kicked: bool,
}

impl Kvm {
    /// A kick is for the next HLT if there is none now; true when that is what it was waiting for.
    pub const fn take_kick(&mut self) -> bool {
        core::mem::replace(&mut self.kicked, false)
    }

    /// A kick came while the vCPU was not halted.
    pub const fn latch_kick(&mut self) {
        self.kicked = true;
    }
}
