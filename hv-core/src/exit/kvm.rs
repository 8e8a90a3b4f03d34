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
use crate::device::Gp;
use crate::exit::cpu::CpuContext;
use crate::guest::platform::Platform;
use crate::guest::vcpu::Vcpu;

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

/// Where an enabled register points, if so.
fn place(value: u64, unused: u64) -> Option<GuestPhys> {
    (value & ENABLED != 0).then(|| GuestPhys::new_truncate(value & !unused))
}

/// RDMSR of one of its registers; `None`: it is none of its.
#[cold]
pub fn read_msr<P: Platform>(vcpu: &Vcpu<P>, index: u32) -> Option<u64> {
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
pub fn write_msr<P: Platform>(
    vcpu: &mut Vcpu<P>,
    core: &mut CpuContext<P>,
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
