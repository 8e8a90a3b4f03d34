//! The host's state that every exit loads: this processor's, the same at each exit. Intel SDM vol 3C §24.5.
#![expect(unsafe_code, reason = "SGDT, SIDT, STR, and the GDT's own bytes")]

use super::fields;
use super::vmcs::Current;
use core::arch::asm;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::{sgdt, sidt};
use x86_64::registers::control::{Cr0, Cr3, Cr4};
use x86_64::registers::model_specific::{Efer, FsBase, GsBase, Msr};

const IA32_PAT: u32 = 0x277;

/// Writes it to the current VMCS.
pub fn write(vmcs: Current) {
    let (gdt, idt) = (sgdt(), sidt());
    let task: u16;
    // SAFETY: reads a register.
    unsafe { asm!("str {0:x}", out(reg) task, options(nomem, nostack, preserves_flags)) };
    vmcs.write(fields::HOST_CR0, Cr0::read_raw());
    let (frame, flags) = Cr3::read_raw();
    vmcs.write(fields::HOST_CR3, frame.start_address().as_u64() | u64::from(flags));
    vmcs.write(fields::HOST_CR4, Cr4::read_raw());
    // Their requested privilege is 0, and there is no LDT (§26.2.3).
    for (field, selector) in [
        (fields::HOST_CS, CS::get_reg().0),
        (fields::HOST_SS, SS::get_reg().0),
        (fields::HOST_DS, DS::get_reg().0),
        (fields::HOST_ES, ES::get_reg().0),
        (fields::HOST_FS, FS::get_reg().0),
        (fields::HOST_GS, GS::get_reg().0),
        (fields::HOST_TR, task),
    ] {
        vmcs.write(field, selector & !7);
    }
    vmcs.write(fields::HOST_FS_BASE, FsBase::read().as_u64());
    vmcs.write(fields::HOST_GS_BASE, GsBase::read().as_u64());
    vmcs.write(fields::HOST_TR_BASE, task_base(gdt.base.as_u64(), task));
    vmcs.write(fields::HOST_GDTR_BASE, gdt.base.as_u64());
    vmcs.write(fields::HOST_IDTR_BASE, idt.base.as_u64());
    vmcs.write(fields::HOST_SYSENTER_CS, 0);
    vmcs.write(fields::HOST_SYSENTER_ESP, 0);
    vmcs.write(fields::HOST_SYSENTER_EIP, 0);
    vmcs.write(fields::HOST_EFER, Efer::read_raw());
    // SAFETY: every x86-64 processor has the MSR; reading it changes nothing.
    vmcs.write(fields::HOST_PAT, unsafe { Msr::new(IA32_PAT).read() });
}

/// Where the task-state segment lies, from its 16-byte descriptor (vol 3A §7.2.3).
fn task_base(gdt: u64, selector: u16) -> u64 {
    let at = gdt + u64::from(selector & !7);
    let descriptor: *const u64 = core::ptr::with_exposed_provenance(usize::try_from(at).unwrap_or(0));
    // SAFETY: the task register was loaded from this descriptor of the GDT that is loaded, which lives for good.
    let (low, high) = unsafe { (descriptor.read_unaligned(), descriptor.add(1).read_unaligned()) };
    low >> 16 & 0x00ff_ffff | low >> 32 & 0xff00_0000 | high << 32
}
