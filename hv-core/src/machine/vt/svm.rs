//! AMD-V. Section numbers: AMD APM vol 2, publication 24593, rev 3.42.
//! Owns the VMCB and the world switch. Knows nothing of guests or scheduling.
#![expect(unsafe_code, reason = "the world switch and SVM's MSRs; every block carries SAFETY")]

mod codes;
mod decode;
mod enable;
mod reset;
mod state;
mod switch;
#[cfg(test)]
mod tests;
mod vmcb;

use crate::base::addr::HostPhys;
use crate::guest::seam::{Exit, Processor, VirtualCpu};
use crate::machine::arch::bochs;
use crate::machine::arch::translator::Translator;
use alloc::boxed::Box;
use core::arch::asm;

use super::debug;
use super::fpu::Restore;
use crate::base::addr::PAGE_BYTES;
use crate::base::time::Frequency;
use crate::machine::memory::Memory;
use crate::policy::mm::nested::Npt;
use enable::SvmOn;
use pv_abi::cpuid::CallInstruction;
use vmcb::Vmcb;

pub use enable::{Capabilities, Missing};
pub use state::{Maps, SvmVcpu};

/// As many identifiers as are told apart.
const MAX_ASIDS: u32 = 4096;

/// One processor with SVM on.
pub struct Svm {
    on: SvmOn,
    /// VMLOAD and VMSAVE keep the host's TR, LDTR, FS, GS and system-call MSRs here.
    host_vmcb: HostPhys,
    /// Identifiers that vCPUs share.
    shared_asids: u32,
    /// Which vCPU last ran under each address-space identifier: another one must flush.
    asid_owners: Box<[u64]>,
    restore: Restore,
    /// QEMU's translator: whose breakpoints it has, by tag, and their DR7; 0 for none.
    breakpoints: (u64, u64),
    /// The world switch, the machine's own.
    enter: switch::Enter,
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
        let restore = Restore::of_machine(translator);
        if translator.is_some() {
            debug::idle();
        }
        let enter = if bochs::is_it() { switch::check_and_enter } else { switch::enter };
        Self { on, host_vmcb, shared_asids: asids - 1, asid_owners, restore, breakpoints: (0, 0), enter }
    }
}

impl Processor for Svm {
    type Vcpu = SvmVcpu;

    #[inline]
    fn run(&mut self, vcpu: &mut SvmVcpu) -> Exit {
        let vmcb_phys = vcpu.vmcb_phys.raw();
        // SAFETY: the VMCB is a page of the vCPU's own, `host_vmcb` is this processor's, SVM is on (`on`), and the
        // caller's `&mut` keeps anyone else from running this vCPU. Interrupts are off (I-1).
        unsafe { (self.enter)(&raw mut vcpu.saved, vmcb_phys, self.host_vmcb.raw()) };
        let control = &mut vcpu.vmcb.control;
        control.tlb_control = 0;
        let exit_code = control.exit_code;
        decode::exit(vcpu, exit_code)
    }

    #[inline]
    fn switch_in(&mut self, vcpu: &mut SvmVcpu) {
        // Identifier 0 is the host's. One that several vCPUs share is flushed when its owner changes.
        let asid = vcpu.asid(self.shared_asids);
        if let Some(owner) = self.asid_owners.get_mut(asid as usize)
            && *owner != vcpu.tag
        {
            *owner = vcpu.tag;
            vcpu.flush();
        }
        if let (tag, dr7 @ 1..) = self.breakpoints
            && tag != vcpu.tag
        {
            vcpu.foreign_breakpoints = dr7;
        }
        vcpu.arm_breakpoints();
        vcpu.fpu.load(self.restore);
    }

    fn arrive(&mut self, vcpu: &mut SvmVcpu) {
        vcpu.change_tag();
    }

    fn depart(&mut self, _vcpu: &mut SvmVcpu) {}

    #[inline]
    fn switch_out(&mut self, vcpu: &mut SvmVcpu) {
        if let Some(dr7) = vcpu.unload_debug_registers() {
            self.breakpoints = (vcpu.tag, dr7);
        }
        vcpu.fpu.save();
    }
}

/// AMD's way, as the boot sees it.
#[derive(Clone, Copy, Debug)]
pub enum Amd {}

impl super::Vendor for Amd {
    type Format = Npt;
    type Processor = Svm;
    type Vcpu = SvmVcpu;
    type Capabilities = Capabilities;
    type Missing = Missing;
    type Maps = Maps;

    const NAME: &'static str = "AMD-V";
    const CALL: CallInstruction = CallInstruction::VMMCALL;
    /// Where VMRUN keeps the host's state, and where VMSAVE does.
    const PROCESSOR_PAGES: u64 = 2;

    unsafe fn enable(pages: HostPhys, tsc: Frequency) -> Result<Svm, Missing> {
        // SAFETY: by contract.
        let on = unsafe { SvmOn::enable(pages)? };
        let host_vmcb = HostPhys::new_truncate(pages.raw() + PAGE_BYTES);
        Ok(Svm::new(on, host_vmcb, Translator::find(tsc)))
    }

    fn capabilities(processor: &Svm) -> Capabilities {
        processor.on.capabilities()
    }

    fn weakness(_: Capabilities) -> Option<&'static str> {
        None
    }

    /// I/O: everything is intercepted. MSRs: everything but `untouched`, two bits an MSR; the second range begins at byte 0x800
    /// (§15.10, §15.11).
    fn maps(memory: &mut Memory, capabilities: Capabilities, untouched: &[u32]) -> Option<Maps> {
        let io = memory.pages_of_ones(3)?;
        let msr = memory.pages_of_ones(2)?;
        for index in untouched {
            let (base, offset) =
                if *index >= 0xc000_0000 { (0x800, index - 0xc000_0000) } else { (0, *index) };
            let byte = base + u64::from(offset / 4);
            debug_assert!(byte < 2 * PAGE_BYTES);
            // SAFETY: the byte lies in the two pages just taken, which no VMCB names yet.
            unsafe { memory.clear_bits(msr.checked_add(byte)?, 0b11 << (offset % 4 * 2)) };
        }
        Some(Maps { io, msr, features: capabilities.features() })
    }

    fn vcpu(memory: &mut Memory, maps: Maps, root: HostPhys, setup: super::Setup) -> Option<SvmVcpu> {
        // SAFETY: a VMCB is integers only, so all-zero is one.
        let (vmcb_phys, vmcb) = unsafe { memory.zeroed_page::<Vmcb>()? };
        Some(SvmVcpu::new(vmcb, vmcb_phys, maps, root, Translator::find(setup.tsc), setup.number))
    }
}
