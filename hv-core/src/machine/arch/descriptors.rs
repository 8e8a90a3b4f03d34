//! GDT, TSS and the stacks of one processor (Intel SDM vol 3 §3.4, §7.7).
#![expect(unsafe_code, reason = "LGDT, LTR and segment loads")]

use alloc::boxed::Box;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

/// Bytes in each interrupt stack.
const STACK_BYTES: usize = 16 * 1024;
/// Interrupt stack for double faults.
pub const DOUBLE_FAULT_STACK: u16 = 0;
/// Interrupt stack for NMIs.
pub const NMI_STACK: u16 = 1;
/// Interrupt stack for machine checks, which may arrive while the processor handles an NMI.
pub const MACHINE_CHECK_STACK: u16 = 2;

/// Allocates a stack that is never freed; returns its top.
fn new_stack() -> VirtAddr {
    let stack: &'static mut [u8] = Box::leak(alloc::vec![0_u8; STACK_BYTES].into_boxed_slice());
    VirtAddr::from_ptr(stack.as_mut_ptr_range().end).align_down(16_u64)
}

/// Gives this processor its own GDT and TSS, with separate interrupt stacks for the exceptions that may arrive on a bad stack.
/// GDT, TSS and stacks are never freed.
pub fn install() {
    let mut tss = Box::new(TaskStateSegment::new());
    for stack in [DOUBLE_FAULT_STACK, NMI_STACK, MACHINE_CHECK_STACK] {
        tss.interrupt_stack_table[usize::from(stack)] = new_stack();
    }
    let mut gdt = Box::new(GlobalDescriptorTable::new());
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let task = gdt.append(Descriptor::tss_segment(Box::leak(tss)));
    Box::leak(gdt).load();
    // SAFETY: the selectors were just made in the GDT that is loaded now, flat and at CPL 0; GDT and TSS are leaked.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(task);
    }
}
