//! AMD-V. Section numbers: AMD APM vol 2, publication 24593, rev 3.42.
//! Owns the VMCB and the world switch. Knows nothing of guests or scheduling.
#![expect(unsafe_code, reason = "the world switch and SVM's MSRs; every block carries SAFETY")]

mod debug;
mod decode;
mod enable;
mod fpu;
mod reset;
mod state;
mod switch;
mod vmcb;

use crate::base::addr::HostPhys;
use crate::dispatch::vt::{Exit, Processor};
use crate::machine::arch::translator::Translator;
use alloc::boxed::Box;
use core::arch::asm;

use fpu::Restore;

pub use enable::{Capabilities, Missing, SvmOn};
pub use state::{Injection, Maps, SvmVcpu};
pub use vmcb::Vmcb;

/// As many identifiers as are told apart.
const MAX_ASIDS: u32 = 4096;

/// One processor with SVM on.
pub struct Svm {
    _on: SvmOn,
    /// VMLOAD and VMSAVE keep the host's TR, LDTR, FS, GS and system-call MSRs here.
    host_vmcb: HostPhys,
    /// Identifiers that vCPUs share.
    shared_asids: u32,
    /// Which vCPU last ran under each address-space identifier: another one must flush.
    asid_owners: Box<[u64]>,
    restore: Restore,
}

impl Svm {
    /// Takes a processor into service. `host_vmcb` is a frame of its own.
    pub fn new(on: SvmOn, host_vmcb: HostPhys, translator: Option<Translator>) -> Self {
        // SAFETY: `on` proves that EFER.SVME is set here, and the caller gave the frame away for good.
        unsafe {
            asm!("vmsave rax", in("rax") host_vmcb.raw(), options(nostack, preserves_flags));
        }
        let asids = on.asids().clamp(2, MAX_ASIDS);
        let asid_owners = alloc::vec![0; asids as usize].into_boxed_slice();
        Self {
            _on: on,
            host_vmcb,
            shared_asids: asids - 1,
            asid_owners,
            restore: Restore::of_machine(translator),
        }
    }
}

impl Processor for Svm {
    type Vcpu = SvmVcpu;

    #[inline]
    fn run(&mut self, vcpu: &mut SvmVcpu) -> Exit {
        let vmcb_phys = vcpu.vmcb_phys.raw();
        // SAFETY: the VMCB is a page of the vCPU's own, `host_vmcb` is this processor's, SVM is on (`_on`), and the
        // caller's `&mut` keeps anyone else from running this vCPU. Interrupts are off (I-1).
        unsafe { switch::enter(&raw mut vcpu.saved, vmcb_phys, self.host_vmcb.raw()) };
        vcpu.vmcb.control.tlb_control = 0;
        decode::exit(vcpu)
    }

    #[inline]
    fn switch_in(&mut self, vcpu: &mut SvmVcpu) {
        // Identifier 0 is the host's. One that several vCPUs share is flushed when its owner changes.
        let asid = vcpu.asid(self.shared_asids);
        if let Some(owner) = self.asid_owners.get_mut(asid as usize)
            && *owner != vcpu.tag
        {
            *owner = vcpu.tag;
            vcpu.vmcb.control.tlb_control = vmcb::FLUSH_ALL;
        }
        vcpu.arm_breakpoints();
        vcpu.fpu.load(self.restore);
    }

    fn arrive(&mut self, vcpu: &mut SvmVcpu) {
        vcpu.change_tag();
    }

    #[inline]
    fn switch_out(&mut self, vcpu: &mut SvmVcpu) {
        vcpu.unload_debug_registers();
        vcpu.fpu.save();
    }
}
