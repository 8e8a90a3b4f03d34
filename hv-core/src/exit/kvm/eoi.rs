//! Paravirtual EOI, the end of an interrupt without an exit: a flag in the guest's memory says that no other interrupt is
//! pending, and the guest clears it instead of writing to its APIC. The emulated APIC reads the flag when it is accessed
//! next.

use super::place;
use crate::base::addr::GuestPhys;
use crate::base::hardware::GuestBytes;
use crate::device::Gp;
use crate::guest::platform::Platform;
use crate::guest::vcpu::Vcpu;

const UNUSED: u64 = 0x3;
const RESERVED: u64 = 0x2;
/// KVM_PV_EOI_ENABLED, in the flag's first byte.
const OPEN: u8 = 1;

/// Handles WRMSR to KVM's PV_EOI register; #GP if a reserved bit is set.
pub fn set_up<P: Platform>(vcpu: &mut Vcpu<P>, value: u64) -> Result<(), Gp> {
    if value & RESERVED != 0 {
        return Err(Gp);
    }
    take(vcpu);
    vcpu.kvm.pv_eoi = value;
    Ok(())
}

fn flag<P: Platform>(vcpu: &Vcpu<P>) -> Option<GuestPhys> {
    place(vcpu.kvm.pv_eoi, UNUSED)
}

/// Called when an interrupt with this vector is injected: the guest may end it by the flag if no other interrupt is pending
/// or in service, and if the I/O APIC does not wait for its EOI.
pub fn offer<P: Platform>(vcpu: &mut Vcpu<P>, vector: u8) {
    let Some(at) = flag(vcpu) else { return };
    if vcpu.lapic.is_alone(vector) && !vcpu.guest.is_level(vector) {
        vcpu.kvm.eoi_is_open = vcpu.guest.ram.write(at, &[OPEN]).is_ok();
    }
}

/// Called before any access to the APIC: an interrupt that the guest ended by the flag is ended in the APIC too; one that it
/// has not ended yet must end by the APIC.
#[inline]
pub fn take<P: Platform>(vcpu: &mut Vcpu<P>) {
    if vcpu.kvm.eoi_is_open {
        close(vcpu);
    }
}

#[cold]
fn close<P: Platform>(vcpu: &mut Vcpu<P>) {
    vcpu.kvm.eoi_is_open = false;
    let Some(at) = flag(vcpu) else { return };
    let mut byte = [0];
    if vcpu.guest.ram.read(at, &mut byte).is_ok() && byte[0] & OPEN == 0 {
        let _ = vcpu.lapic.end_of_interrupt();
    } else {
        let _ = vcpu.guest.ram.write(at, &[0]);
    }
}
