//! The path from reset to Rust: the PVH entry (32-bit protected mode, paging off, EBX = start info), page tables that
//! map the first 4 GiB at their own addresses, and the switch to long mode. Processors that a SIPI starts take the same
//! path.
//!
//! Cites: Xen `docs/misc/pvh.pandoc`; Intel SDM vol 3, 10.8.5 (processor start), 4.5 (paging).
#![expect(unsafe_code, reason = "the entry points are assembly that calls Rust by symbol")]

use super::boot::Boot;
use super::{cpu, descriptor, percpu, start_info};
use spin::Once;

/// Stack size of each processor, in bytes.
pub(crate) const STACK_BYTES: usize = 16 << 10;

// The function that `entry!` defines in the kernel that links this crate. It sets the crate up and calls the kernel's
// main function.
#[cfg(target_os = "none")]
unsafe extern "Rust" {
    safe fn guest_kernel_main(boot: &'static Boot);
}

#[cfg(not(target_os = "none"))]
fn guest_kernel_main(_: &'static Boot) {}

/// The function that every processor but the first runs.
static OTHERS: Once<fn(usize)> = Once::new();

/// Registers the function that every processor but the first runs, with its number as the argument. Only the first
/// registration counts.
pub(crate) fn run_others(run: fn(usize)) {
    OTHERS.call_once(|| run);
}

/// The first Rust function on the first processor. `start_info` is the physical address that the loader passed.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
extern "C" fn shim_start(start_info: u32) -> ! {
    percpu::install(0);
    descriptor::install(0);
    // SAFETY: the loader passed this address in EBX, as PVH specifies; everything below 4 GiB is mapped at its own
    // address, and nothing has written to memory outside the image yet.
    let boot = unsafe { start_info::read(start_info) };
    guest_kernel_main(boot);
    stop()
}

/// The first Rust function on every other processor.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub(crate) extern "C" fn shim_start_other(index: u64) -> ! {
    let index = usize::try_from(index).unwrap_or(0);
    percpu::install(index);
    descriptor::install(index);
    if let Some(run) = OTHERS.get() {
        run(index);
    }
    stop()
}

fn stop() -> ! {
    loop {
        cpu::halt_with_interrupts_off();
    }
}

#[cfg(target_os = "none")]
core::arch::global_asm!(
    r#"
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad boot_pvh

    .section .text.boot, "ax"
    .code32
    .global boot_pvh
boot_pvh:
    cld
    movl $boot_stack_top, %esp
    movl %ebx, %edi
    call boot_long_mode
    ljmp $8, $boot_first_64

    .global boot_other
boot_other:                          # a started processor, from the trampoline; EDI is its index
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %ss
    movl boot_other_stack, %esp
    movl boot_other_index, %edi
    call boot_long_mode
    ljmp $8, $boot_other_64

boot_long_mode:                      # keeps EDI; paging on, long mode active, the boot GDT loaded
    movl %cr4, %eax
    orl $0x620, %eax                 # PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax                 # EFER.LME
    wrmsr
    movl %cr0, %eax
    andl $0x9ffffff3, %eax           # not CD, NW, EM, TS
    orl $0x80010023, %eax            # PG, WP, NE, MP, PE
    movl %eax, %cr0
    lgdt boot_gdt_pointer
    ret

    .code64
boot_first_64:
    call boot_segments
    movl %edi, %edi
    xorl %ebp, %ebp
    call shim_start
boot_other_64:
    call boot_segments
    movl %edi, %edi
    xorl %ebp, %ebp
    call shim_start_other
boot_segments:
    movw $16, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    ret

    # Copied to 0x8000, where a SIPI with vector 8 begins in real mode with CS = 0x800.
    .code16
    .global boot_trampoline, boot_trampoline_end
boot_trampoline:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl 0x8000 + (boot_trampoline_gdt - boot_trampoline)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $24, $boot_other
    .balign 4
boot_trampoline_gdt:
    .word 31
    .long boot_gdt
boot_trampoline_end:
    .code64

    .section .data.boot, "aw"
    .balign 4096
boot_pml4:
    .quad boot_pdpt + 3
    .fill 511, 8, 0
boot_pdpt:
    .quad boot_pd + 0x0003, boot_pd + 0x1003, boot_pd + 0x2003, boot_pd + 0x3003
    .fill 508, 8, 0
boot_pd:                             # 2,048 pages of 2 MiB; the one with the local APIC in it uncached
    .set boot_page, 0
    .rept 2048
    .if boot_page == 2039
    .quad (boot_page << 21) | 0x9b
    .else
    .quad (boot_page << 21) | 0x83
    .endif
    .set boot_page, boot_page + 1
    .endr
    .balign 16
boot_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff
boot_gdt_pointer:
    .word 31
    .long boot_gdt, 0
    .balign 8
    .global boot_other_stack, boot_other_index
boot_other_stack: .quad 0
boot_other_index: .quad 0

    .section .bss.boot, "aw", @nobits
    .balign 4096
    .skip {stack_bytes}
boot_stack_top:
    .text
    "#,
    stack_bytes = const STACK_BYTES,
    options(att_syntax)
);
