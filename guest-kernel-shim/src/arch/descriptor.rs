//! GDT, TSS and IDT of each processor, and the stacks for faults.
#![expect(unsafe_code, reason = "loads GDT, TSS and IDT, which must stay valid")]

use super::trap;
use pv_abi::MAX_VCPUS;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, SS, Segment};
use x86_64::instructions::tables::{lidt, load_tss};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// The stack for faults whose own stack may be bad: IST 1.
const FAULT_STACK_BYTES: usize = 4 << 10;

#[repr(align(16))]
struct FaultStack(core::cell::UnsafeCell<[u8; FAULT_STACK_BYTES]>);
// SAFETY: only its own processor uses the stack, through the TSS and never through Rust.
unsafe impl Sync for FaultStack {}

struct Tables {
    gdt: GlobalDescriptorTable,
    code: SegmentSelector,
    data: SegmentSelector,
    task: SegmentSelector,
}

static STACKS: [FaultStack; MAX_VCPUS] =
    [const { FaultStack(core::cell::UnsafeCell::new([0; FAULT_STACK_BYTES])) }; MAX_VCPUS];
static TASKS: [Once<TaskStateSegment>; MAX_VCPUS] = [const { Once::new() }; MAX_VCPUS];
static TABLES: [Once<Tables>; MAX_VCPUS] = [const { Once::new() }; MAX_VCPUS];

/// Loads the tables of processor `index` on the processor that runs this. A processor whose number is too high keeps
/// the tables it has.
pub(crate) fn install(index: usize) {
    let (Some(stack), Some(task), Some(tables)) = (STACKS.get(index), TASKS.get(index), TABLES.get(index))
    else {
        return;
    };
    let task = task.call_once(|| {
        let mut task = TaskStateSegment::new();
        let bottom = VirtAddr::from_ptr(stack.0.get());
        task.interrupt_stack_table[0] = bottom + FAULT_STACK_BYTES as u64;
        task
    });
    let first = !tables.is_completed();
    let tables = tables.call_once(|| {
        let mut gdt = GlobalDescriptorTable::new();
        let code = gdt.append(Descriptor::kernel_code_segment());
        let data = gdt.append(Descriptor::kernel_data_segment());
        let task = gdt.append(Descriptor::tss_segment(task));
        Tables { gdt, code, data, task }
    });
    tables.gdt.load();
    // SAFETY: the selectors belong to the GDT just loaded, which is static. LTR marks a TSS busy, so each TSS is loaded
    // only the first time; a restarted processor finds it in its task register.
    unsafe {
        CS::set_reg(tables.code);
        DS::set_reg(tables.data);
        SS::set_reg(tables.data);
        if first {
            load_tss(tables.task);
        }
    }
    let idt = trap::table();
    let pointer = DescriptorTablePointer {
        limit: u16::try_from(size_of_val(idt) - 1).unwrap_or(u16::MAX),
        base: VirtAddr::from_ptr(idt),
    };
    // SAFETY: the table is static and complete, and each gate leads to a stub in `trap`.
    unsafe { lidt(&pointer) };
}
