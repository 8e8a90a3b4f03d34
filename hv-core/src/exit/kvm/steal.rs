//! Steal time: how long a vCPU was runnable but waited for a CPU, and whether it is off CPU now, which spares the guest's
//! other vCPUs waiting for it and interrupting it (struct kvm_steal_time, 64 bytes).
//!
//! A sender that finds the byte `preempted` set leaves its flush request there, by one compare-and-exchange; a vCPU that
//! comes back on CPU takes both bits by one exchange, before its first instruction.

use super::place;
use crate::base::addr::GuestPhys;
use crate::base::hardware::{GuestBytes, Hardware};
use crate::device::Gp;
use crate::exit::cpu::CpuContext;
use crate::guest::platform::Platform;
use crate::guest::seam::VirtualCpu;
use crate::guest::vcpu::Vcpu;
use crate::policy::vcpu_shared::{NO_COOKIE, SWITCHES_TOLD};

/// Bits 5:1 of the register are reserved.
const UNUSED: u64 = 0x3f;
const RESERVED: u64 = 0x3e;
const VERSION: u64 = 8;
const PREEMPTED: u64 = 16;
/// Bits of the byte `preempted`: KVM_VCPU_PREEMPTED and KVM_VCPU_FLUSH_TLB.
const IS_OFF: u8 = 1 << 0;
const FLUSH: u8 = 1 << 1;

/// Handles WRMSR to KVM's STEAL_TIME register; #GP if a reserved bit is set.
pub fn set_up<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>, value: u64) -> Result<(), Gp> {
    if value & RESERVED != 0 {
        return Err(Gp);
    }
    vcpu.kvm.steal_time = value;
    vcpu.shared.set_cookie(if record(vcpu).is_some() { SWITCHES_TOLD } else { NO_COOKIE });
    come(vcpu, core);
    Ok(())
}

fn record<P: Platform>(vcpu: &Vcpu<P>) -> Option<GuestPhys> {
    place(vcpu.kvm.steal_time, UNUSED)
}

/// Called when the vCPU is about to leave the CPU, voluntarily or not. The vCPU is still published as on CPU, because this
/// accesses its guest's memory (I-9).
pub fn leave<P: Platform>(vcpu: &Vcpu<P>) {
    if let Some(at) = record(vcpu).and_then(|record| record.checked_add(PREEMPTED)) {
        // No other vCPU changes the byte while it is zero.
        let _ = vcpu.guest.ram.write(at, &[IS_OFF]);
        vcpu.shared.ask_to_flush();
    }
}

/// Called when the vCPU is on CPU again, and published so: flushes if a sender requested it, and writes how long the vCPU has
/// waited in all.
pub fn come<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) {
    let Some(record) = record(vcpu) else { return };
    let ram = &vcpu.guest.ram;
    let Some(left) = record.checked_add(PREEMPTED).and_then(|at| ram.exchange(at, 0).ok()) else { return };
    if left & FLUSH != 0 {
        vcpu.state.flush();
    }
    let now = core.hardware.now();
    core.queue.charge(now);
    let steal_ns = core.ns(core.queue.usage(vcpu.shared.slot).wait.0);
    let mut version = [0; 4];
    let Some(version_at) = record.checked_add(VERSION) else { return };
    if ram.read(version_at, &mut version).is_ok() {
        // The version is odd while the record changes. Only this vCPU reads the record, and it does not run now; the protocol
        // is kept all the same.
        let version = u32::from_le_bytes(version) | 1;
        let _ = ram.write(version_at, &version.to_le_bytes());
        let _ = ram.write(record, &steal_ns.to_le_bytes());
        let _ = ram.write(version_at, &version.wrapping_add(1).to_le_bytes());
    }
}
