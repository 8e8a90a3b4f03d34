//! Intel VT-x. Section numbers: Intel SDM vol 3C, order 325462-080US.
//! Owns the VMCS and the world switch. Knows nothing of guests or scheduling.
#![expect(
    unsafe_code,
    reason = "the world switch and the registers that it leaves; every block carries SAFETY"
)]

mod codes;
mod controls;
mod decode;
mod enable;
mod extra;
mod fields;
mod host;
mod reset;
mod state;
mod switch;
mod vmcs;

use super::fpu::Restore;
use crate::base::addr::{HostPhys, PAGE_BYTES};
use crate::base::time::Frequency;
use crate::guest::seam::{CpuEvents, Exit, Processor, VirtualCpu};
use crate::machine::arch::apic;
use crate::machine::memory::Memory;
use crate::policy::mm::nested::Ept;
use controls::Pin;
use core::arch::asm;
use decode::reason;
use pv_abi::cpuid::CallInstruction;
use state::event;
use vmcs::{Current, InVmx};

pub use enable::{Capabilities, Missing};
pub use state::{Maps, VmxVcpu};

/// One processor in VMX operation.
pub struct Vmx {
    _in_vmx: InVmx,
    capabilities: Capabilities,
    /// Whose VMCS is current; `None` when that is not known.
    current: Option<HostPhys>,
    /// Bochs: the preemption timer's count at each entry; and what waits is looked for before a vCPU with IF clear is entered.
    stay: Option<u32>,
}

/// Bochs loses an external interrupt that comes while IF is clear: a guest that does not exit is left after this at the latest.
const BOCHS_STAY_NS: u64 = 1_000_000;

impl Vmx {
    /// Makes a VMCS current.
    #[inline]
    fn make_current(&mut self, vcpu: &VmxVcpu) -> Current {
        if self.current == Some(vcpu.vmcs) {
            // SAFETY: it was made current here, and everything else that loads one puts it back (`vmcs::with`).
            return unsafe { Current::assume() };
        }
        self.current = Some(vcpu.vmcs);
        // SAFETY: the VMCS is the vCPU's, which this processor holds (`&mut` below); it departed from every other one.
        unsafe { Current::load(vcpu.vmcs) }
    }
}

impl Processor for Vmx {
    type Vcpu = VmxVcpu;

    #[inline]
    fn run(&mut self, vcpu: &mut VmxVcpu) -> Exit {
        if self.stay.is_some() && !vcpu.interrupts_on() && apic::one_waits() {
            return vcpu.interrupted();
        }
        let vmcs = self.make_current(vcpu);
        if !vcpu.stale.is_empty() {
            vcpu.sync(vmcs);
        }
        // SAFETY: the vCPU's VMCS is current, and `arrive` wrote this processor's host state to it; interrupts are off (I-1).
        let failed = unsafe { switch::enter(&raw mut vcpu.saved, u64::from(vcpu.launched)) };
        if failed != 0 {
            return Exit::BadState;
        }
        let why = vmcs.read(fields::EXIT_REASON);
        if !vcpu.launched {
            vcpu.launched = why & codes::ENTRY_FAILED == 0;
        }
        vcpu.rip = vmcs.read(fields::RIP);
        vcpu.rflags = vmcs.read(fields::RFLAGS);
        vcpu.stack_access = vmcs.read(fields::SS.access);
        vcpu.interruptibility = vmcs.read(fields::INTERRUPTIBILITY);
        if why == reason::EXCEPTION_OR_NMI && vmcs.read(fields::EXIT_EVENT) & event::TYPE_MASK == event::NMI {
            // SAFETY: the NMI's handler is installed; its IRET lets NMIs in again, which the exit holds back (§27.5.5).
            unsafe { asm!("int 2") };
        }
        decode::exit(vcpu, vmcs, why)
    }

    #[inline]
    fn switch_in(&mut self, vcpu: &mut VmxVcpu) {
        let vmcs = self.make_current(vcpu);
        vcpu.arm_breakpoints(vmcs.read(fields::DR7));
        vcpu.extra.load();
        vcpu.fpu.load(Restore::Whole);
    }

    fn arrive(&mut self, vcpu: &mut VmxVcpu) {
        vcpu.here = true;
        vcpu.flush();
        let vmcs = self.make_current(vcpu);
        host::write(vmcs);
        if let Some(stay) = self.stay {
            vmcs.write(fields::PREEMPTION_TIMER, stay);
        }
    }

    fn depart(&mut self, vcpu: &mut VmxVcpu) {
        // SAFETY: the VMCS is the vCPU's, active on this processor if anywhere.
        unsafe { vmcs::clear(vcpu.vmcs) };
        vcpu.here = false;
        vcpu.launched = false;
        if self.current == Some(vcpu.vmcs) {
            self.current = None;
        }
    }

    #[inline]
    fn switch_out(&mut self, vcpu: &mut VmxVcpu) {
        vcpu.unload_debug_registers();
        vcpu.extra.save();
        vcpu.fpu.save();
    }
}

/// Intel's way, as the boot sees it.
#[derive(Clone, Copy, Debug)]
pub enum Intel {}

impl super::Vendor for Intel {
    type Format = Ept;
    type Processor = Vmx;
    type Vcpu = VmxVcpu;
    type Capabilities = Capabilities;
    type Missing = Missing;
    type Maps = Maps;

    const NAME: &'static str = "VT-x";
    const CALL: CallInstruction = CallInstruction::VMCALL;
    /// The region of VMXON.
    const PROCESSOR_PAGES: u64 = 1;

    unsafe fn enable(pages: HostPhys, tsc: Frequency) -> Result<Vmx, Missing> {
        // SAFETY: by contract.
        let (in_vmx, capabilities) = unsafe { enable::enable(pages)? };
        let count = u32::try_from(tsc.ticks(BOCHS_STAY_NS).0 >> capabilities.timer_shift).unwrap_or(u32::MAX);
        let stay = capabilities.controls.pin.contains(Pin::PREEMPTION_TIMER).then_some(count);
        Ok(Vmx { _in_vmx: in_vmx, capabilities, current: None, stay })
    }

    fn capabilities(processor: &Vmx) -> Capabilities {
        processor.capabilities
    }

    fn weakness(capabilities: Capabilities) -> Option<&'static str> {
        let line = "weakness: a guest can stop this processor by iTLB multihit (CVE-2018-12207; IA32_ARCH_CAPABILITIES bit 6 is clear)";
        capabilities.has_multihit.then_some(line)
    }

    /// I/O: everything exits. MSRs: everything but `untouched`; reads of the lower and the upper range, then writes, each a bit
    /// an MSR (§24.6.9).
    fn maps(memory: &mut Memory, capabilities: Capabilities, untouched: &[u32]) -> Option<Maps> {
        let io = memory.pages_of_ones(2)?;
        let msr = memory.pages_of_ones(1)?;
        for index in untouched {
            let (range, offset) =
                if *index >= 0xc000_0000 { (0x400, index - 0xc000_0000) } else { (0, *index) };
            for writes in [0, 0x800] {
                let byte = writes + range + u64::from(offset / 8);
                debug_assert!(byte < PAGE_BYTES);
                // SAFETY: the byte lies in the page just taken, which no VMCS names yet.
                unsafe { memory.clear_bits(msr.checked_add(byte)?, 1 << (offset % 8)) };
            }
        }
        Some(Maps { io, msr, capabilities })
    }

    fn vcpu(memory: &mut Memory, maps: Maps, root: HostPhys, setup: super::Setup) -> Option<VmxVcpu> {
        let vmcs = memory.shared_frames(1)?;
        vmcs.words
            .first()?
            .store(u64::from(maps.capabilities.revision), core::sync::atomic::Ordering::Relaxed);
        let apic = memory.shared_frames(1)?;
        let number = u16::try_from(setup.number).ok()?;
        // SAFETY: the first processor makes all vCPUs, and is in VMX operation; both frames were just taken.
        Some(unsafe { VmxVcpu::new(vmcs.start, apic, maps, root, number) })
    }
}
