//! KVM's paravirtual interface, for stock kernels that know it: a full guest that can give the hypervisor a few hints, and
//! receive some.
//!
//! Linux, Documentation/virt/kvm/x86/{cpuid,msr,hypercalls}.rst; the structures are in arch/x86/include/uapi/asm/kvm_para.h
//! and pvclock-abi.h. [`call`] has the hypercalls, [`clock`] the clock, [`steal`] steal time and preemption, [`eoi`] the end
//! of interrupts without an exit. Every address that a guest names is in its own memory, which the hypervisor copies to and
//! from.

pub mod call;
pub mod clock;
pub mod eoi;
pub mod steal;

use crate::base::addr::GuestPhys;
use crate::device::Gp;
use crate::exit::cpu::CpuContext;
use crate::guest::platform::Platform;
use crate::guest::vcpu::Vcpu;

/// Numbers of KVM's model-specific registers.
pub mod register {
    /// First number of [`WALL_CLOCK`], which older kernels use; both mean the same.
    pub const OLD_WALL_CLOCK: u32 = 0x11;
    /// First number of [`SYSTEM_TIME`], which older kernels use; both mean the same.
    pub const OLD_SYSTEM_TIME: u32 = 0x12;
    /// The guest writes the address at which the hypervisor then writes the wall clock, once per write.
    pub const WALL_CLOCK: u32 = 0x4b56_4d00;
    /// Address of the vCPU's clock; bit 0 enables it.
    pub const SYSTEM_TIME: u32 = 0x4b56_4d01;
    /// Address of the vCPU's steal-time record; bit 0 enables it, bits 5:1 are reserved.
    pub const STEAL_TIME: u32 = 0x4b56_4d03;
    /// Address of the vCPU's end-of-interrupt flag; bit 0 enables it, bit 1 is reserved.
    pub const PV_EOI: u32 = 0x4b56_4d04;
}

/// Bit of an address register: its address is valid.
const ENABLED: u64 = 1 << 0;

/// The address in a register, or `None` if the register is not enabled.
fn place(value: u64, unused: u64) -> Option<GuestPhys> {
    (value & ENABLED != 0).then(|| GuestPhys::new_truncate(value & !unused))
}

/// RDMSR of one of KVM's registers; `None` if `index` is no such register, or the guest is no KVM guest.
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

/// WRMSR to one of KVM's registers; `None` if `index` is no such register, or the guest is no KVM guest.
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
