//! Model-specific registers: some are emulated, some are switched with the vCPU, and all others raise #GP.

use crate::base::addr::low;
use crate::base::hardware::Hardware;
use crate::device::Gp;
use crate::exit::apic;
use crate::exit::cpu::CpuContext;
use crate::exit::kvm;
use crate::guest::next::Next;
use crate::guest::platform::Platform;
use crate::guest::registers::{self, EFER_NXE};
use crate::guest::seam::{CpuEvents, CpuRegisters, Exception, Instruction, Reg, VirtualCpu};
use crate::guest::vcpu::Vcpu;

const TSC: u32 = 0x10;
const APIC_BASE: u32 = 0x1b;
const PAT: u32 = 0x277;
const TSC_DEADLINE: u32 = 0x6e0;
const EFER: u32 = 0xc000_0080;
/// Whether RCX names a register of the local APIC: exits for it are counted separately.
#[inline]
pub const fn is_apic(rcx: u64) -> bool {
    matches!(low(rcx), 0x800..=0x83f | TSC_DEADLINE)
}

/// Handles RDMSR.
pub fn read<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Next {
    let index = low(vcpu.state.reg(Reg::Rcx));
    let value = match index {
        0x800..=0x83f | TSC_DEADLINE | APIC_BASE if !vcpu.guest.is_cooperative() => {
            vcpu.lapic.set_task_class(vcpu.state.cr8());
            kvm::eoi::take(vcpu);
            vcpu.lapic.read_msr(index, core.hardware.now())
        }
        TSC => Ok(core.hardware.now().0),
        PAT => Ok(vcpu.state.pat()),
        EFER => Ok(vcpu.state.efer()),
        quiet if registers::is_zero(quiet) => Ok(0),
        index => kvm::read_msr(vcpu, index).ok_or(Gp),
    };
    match value {
        Ok(value) => {
            vcpu.state.set_reg(Reg::Rax, value & 0xffff_ffff);
            vcpu.state.set_reg(Reg::Rdx, value >> 32);
            vcpu.state.finish(Instruction::Msr);
        }
        Err(Gp) => vcpu.state.inject_exception(Exception::GeneralProtection),
    }
    Next::Resume
}

/// Handles WRMSR.
#[inline]
pub fn write<P: Platform>(vcpu: &mut Vcpu<P>, core: &mut CpuContext<P>) -> Next {
    let index = low(vcpu.state.reg(Reg::Rcx));
    let value = vcpu.state.reg(Reg::Rdx) << 32 | u64::from(low(vcpu.state.reg(Reg::Rax)));
    let done = match index {
        0x800..=0x83f | TSC_DEADLINE | APIC_BASE if !vcpu.guest.is_cooperative() => {
            write_apic(vcpu, core, index, value)
        }
        PAT if is_pat(value) => {
            vcpu.state.set_pat(value);
            Ok(Next::Resume)
        }
        EFER if set_efer(vcpu, value) => Ok(Next::Resume),
        // A write to the time-stamp counter changes nothing: all vCPUs of a guest share one clock.
        TSC => Ok(Next::Resume),
        quiet if registers::is_zero(quiet) => Ok(Next::Resume),
        index => kvm::write_msr(vcpu, core, index, value).unwrap_or(Err(Gp)).map(|()| Next::Resume),
    };
    match done {
        Ok(next) => {
            vcpu.state.finish(Instruction::Msr);
            next
        }
        Err(Gp) => {
            vcpu.state.inject_exception(Exception::GeneralProtection);
            Next::Resume
        }
    }
}

/// WRMSR to EFER: bits that CPUID does not announce are reserved. A change of NXE flushes, because cached translations
/// contain whether bit 63 of an entry forbade execution.
#[cold]
fn set_efer<P: Platform>(vcpu: &mut Vcpu<P>, value: u64) -> bool {
    let before = vcpu.state.efer();
    let done = value & !vcpu.allowed.efer == 0 && vcpu.state.set_efer(value);
    if done && (value ^ before) & EFER_NXE != 0 {
        vcpu.state.flush();
    }
    done
}

/// Each byte of PAT is 0, 1, 4, 5, 6 or 7 (APM vol 2 §7.8.2).
fn is_pat(value: u64) -> bool {
    value.to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7))
}

#[inline]
fn write_apic<P: Platform>(
    vcpu: &mut Vcpu<P>,
    core: &mut CpuContext<P>,
    index: u32,
    value: u64,
) -> Result<Next, Gp> {
    let now = core.hardware.now();
    // The guest writes CR8 without an exit, so the APIC learns of its value here.
    vcpu.lapic.set_task_class(vcpu.state.cr8());
    kvm::eoi::take(vcpu);
    let effect = vcpu.lapic.write_msr(index, value, now)?;
    if index == APIC_BASE {
        // An APIC that was off has no priority left.
        vcpu.state.set_cr8(vcpu.lapic.task_priority() >> 4);
    }
    Ok(apic::follow(vcpu, core, effect))
}
