//! A call from user mode, where there are no calls.
#![expect(unsafe_code, reason = "goes to CPL 3 and does not come back but by an exception")]

use crate::raw;
use core::arch::asm;
use guest_kernel_shim::{console, interrupt, platform, println, probe};

const EFER: u32 = 0xc000_0080;
const STAR: u32 = 0xc000_0081;
/// SYSRET's CS and SS: selectors 0x23 and 0x1b, whatever the GDT holds there.
const STAR_VALUE: u64 = 0x10 << 48 | 0x8 << 32;
const SYSCALL_ENABLE: u64 = 1;
const USER: u64 = 1 << 2;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Entries of 2 MiB that become the user's: all of a small guest's RAM.
const RAM_ENTRIES: u64 = 8;
/// Byte of a gate that names its stack.
const GATE_STACK: u64 = 4;
const INVALID_OPCODE: u64 = 6;

/// Makes INFO from CPL 3. Exception 6 from there is what should come; it ends this kernel.
pub fn call() {
    if !platform::is_cooperative() {
        println!("user: no calls in this mode");
        return;
    }
    println!("user: INFO from CPL 3");
    console::flush();
    interrupt::disable();
    let efer = probe::rdmsr(EFER).unwrap_or(0);
    if raw::wrmsr(STAR, STAR_VALUE).is_err() || raw::wrmsr(EFER, efer | SYSCALL_ENABLE).is_err() {
        println!("user: SYSRET is not to be had");
        return;
    }
    let cr3: u64;
    // SAFETY: reads CR3.
    unsafe { asm!("mov {}, cr3", out(reg) cr3, options(nomem, nostack)) };
    let load = |at: u64| probe::load(at).unwrap_or(0);
    let (upper, middle) = (cr3 & FRAME, load(cr3 & FRAME) & FRAME);
    let lower = load(middle) & FRAME;
    let entries = [upper, middle].into_iter().chain((0..RAM_ENTRIES).map(|n| lower + n * 8));
    for entry in entries {
        let _ = raw::store(entry, load(entry) | USER);
    }
    let mut table = [0u64; 2];
    // SAFETY: SIDT writes ten bytes behind the first six of `table`, which has sixteen.
    unsafe { asm!("sidt [{}]", in(reg) table.as_mut_ptr().byte_add(6), options(nostack)) };
    // The first fault stack: user mode has none that the exception could begin on.
    let gate = table[1] + INVALID_OPCODE * 16;
    let _ = raw::store(gate, load(gate) & !(7 << (GATE_STACK * 8)) | 1 << (GATE_STACK * 8));
    // SAFETY: goes on at the label, in user mode, and ends there in an exception, which ends this kernel.
    unsafe {
        asm!(
            "mov rax, cr3",
            "mov cr3, rax",
            "lea rcx, [rip + 2f]",
            "mov r11, 2",
            "sysretq",
            "2:",
            "mov eax, 0x434d0000",
            "xor edi, edi",
            "vmmcall",
            "hlt",
            options(noreturn)
        );
    }
}
