//! Writes to control registers that change a bit of ours: NE of CR0, which VMX keeps set, and what a guest may not set of CR4.

use super::controls::Entry;
use super::fields;
use super::state::{CR0_NE, VmxVcpu};
use super::vmcs::Current;
use crate::dispatch::vt::{Exception, Exit, Instruction, VirtualCpu};
use crate::machine::vt::bits::{CR0_PE, CR0_PG, EFER_LMA, EFER_LME};

const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR4_PAE: u64 = 1 << 5;

/// Handles an exit for an access to a control register (table 27-3): bits 3:0 which, bits 5:4 how, bits 11:8 the general register.
/// Only MOV to CR0 is one that a guest may make.
pub fn control_access(vcpu: &mut VmxVcpu, vmcs: Current) -> Exit {
    let qualification = vmcs.read(fields::QUALIFICATION);
    let done = qualification & 0x3f == 0 && set_cr0(vmcs, general(vcpu, vmcs, qualification >> 8 & 0xf));
    if done {
        vcpu.finish(Instruction::ControlRegister);
    } else {
        vcpu.inject_exception(Exception::GeneralProtection);
    }
    Exit::Handled
}

/// A general register by its number in an instruction.
fn general(vcpu: &VmxVcpu, vmcs: Current, number: u64) -> u64 {
    let saved = &vcpu.saved;
    match number {
        0 => saved.rax,
        1 => saved.rcx,
        2 => saved.rdx,
        3 => saved.rbx,
        4 => vmcs.read(fields::RSP),
        5 => saved.rbp,
        6 => saved.rsi,
        7 => saved.rdi,
        8 => saved.r8,
        9 => saved.r9,
        10 => saved.r10,
        11 => saved.r11,
        12 => saved.r12,
        13 => saved.r13,
        14 => saved.r14,
        _ => saved.r15,
    }
}

/// What MOV to CR0 does (SDM vol 3A §4.1.1, vol 2B MOV); false where it raises #GP.
fn set_cr0(vmcs: Current, value: u64) -> bool {
    let before = vmcs.read(fields::CR0);
    let bad = value >> 32 != 0
        || value & CR0_PG != 0 && value & CR0_PE == 0
        || value & CR0_NW != 0 && value & CR0_CD == 0;
    if bad {
        return false;
    }
    if (value ^ before) & CR0_PG != 0 {
        let efer = vmcs.read(fields::EFER);
        let long = value & CR0_PG != 0 && efer & EFER_LME != 0;
        if long && vmcs.read(fields::CR4) & CR4_PAE == 0 {
            return false;
        }
        let mut entry = Entry::from_bits_retain(vmcs.read(fields::ENTRY_CONTROLS));
        entry.set(Entry::LONG_MODE, long);
        vmcs.write(fields::ENTRY_CONTROLS, entry.bits());
        vmcs.write(fields::EFER, if long { efer | EFER_LMA } else { efer & !EFER_LMA });
    }
    vmcs.write(fields::CR0, value | CR0_NE);
    vmcs.write(fields::CR0_SHADOW, value);
    true
}
