//! KVM's paravirtual interface, for stock kernels that know it: a full guest that may say a few things, and be told some.
//!
//! Linux, Documentation/virt/kvm/x86/{cpuid,msr,hypercalls}.rst; the structures are in arch/x86/include/uapi/asm/kvm_para.h and
//! pvclock-abi.h. [`call`] is the hypercalls, [`clock`] the clock, [`steal`] what a vCPU did not get and whom it keeps waiting,
//! [`eoi`] the end of interrupts without an exit. All memory that a guest names is its own, copied to and from.

pub mod call;
pub mod clock;
pub mod eoi;
pub mod steal;

use crate::base::addr::GuestPhys;
use crate::base::hardware::{GuestRam, Hardware};
use crate::dispatch::core::Core;
use crate::dispatch::device::Gp;
use crate::dispatch::vcpu::Vcpu;
use crate::dispatch::vt::VirtualCpu;

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
    /// See [`super::steal`].
    pub const STEAL_TIME: u32 = 1 << 5;
    /// See [`super::eoi`].
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

/// The model-specific registers.
pub mod register {
    /// The clock's first ones.
    pub const OLD_WALL_CLOCK: u32 = 0x11;
    /// See there.
    pub const OLD_SYSTEM_TIME: u32 = 0x12;
    /// Where the wall clock is to be written, once.
    pub const WALL_CLOCK: u32 = 0x4b56_4d00;
    /// Where the vCPU's clock is.
    pub const SYSTEM_TIME: u32 = 0x4b56_4d01;
    /// Where its steal-time record is.
    pub const STEAL_TIME: u32 = 0x4b56_4d03;
    /// Where its end-of-interrupt flag is.
    pub const PV_EOI: u32 = 0x4b56_4d04;
}

/// Of an address register: it counts.
const ENABLED: u64 = 1 << 0;

/// What a vCPU has set up, as it wrote it; zeroes for all others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kvm {
    wall_clock: u64,
    system_time: u64,
    steal_time: u64,
    pv_eoi: u64,
    /// The flag in the guest's memory says that an interrupt may end there.
    eoi_is_open: bool,
    /// A KICK_CPU that came while it was not halted.
    kicked: bool,
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

/// Where an enabled register points, if so.
fn place(value: u64, unused: u64) -> Option<GuestPhys> {
    (value & ENABLED != 0).then(|| GuestPhys::new_truncate(value & !unused))
}

/// RDMSR of one of its registers; `None`: it is none of its.
#[cold]
pub fn read_msr<S, R: GuestRam>(vcpu: &Vcpu<S, R>, index: u32) -> Option<u64> {
    if !vcpu.guest.is_kvm() {
        return None;
    }
    Some(match index {
        register::WALL_CLOCK | register::OLD_WALL_CLOCK => vcpu.kvm.wall_clock,
        register::SYSTEM_TIME | register::OLD_SYSTEM_TIME => vcpu.kvm.system_time,
        register::STEAL_TIME => vcpu.kvm.steal_time,
        register::PV_EOI => vcpu.kvm.pv_eoi,
        _ => return None,
    })
}

/// WRMSR of one of its registers; `None`: it is none of its.
#[cold]
pub fn write_msr<S: VirtualCpu, H: Hardware, R: GuestRam>(
    vcpu: &mut Vcpu<S, R>,
    core: &mut Core<H, R>,
    index: u32,
    value: u64,
) -> Option<Result<(), Gp>> {
    if !vcpu.guest.is_kvm() {
        return None;
    }
    Some(match index {
        register::WALL_CLOCK | register::OLD_WALL_CLOCK => {
            vcpu.kvm.wall_clock = value;
            clock::write_wall_clock(vcpu.guest, core, GuestPhys::new_truncate(value));
            Ok(())
        }
        register::SYSTEM_TIME | register::OLD_SYSTEM_TIME => {
            vcpu.kvm.system_time = value;
            if let Some(at) = place(value, ENABLED) {
                clock::write(vcpu.guest, core, at);
            }
            Ok(())
        }
        register::STEAL_TIME => steal::set_up(vcpu, core, value),
        register::PV_EOI => eoi::set_up(vcpu, value),
        _ => return None,
    })
}
