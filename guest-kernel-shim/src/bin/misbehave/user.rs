//! What user mode does: a call, where there are no calls, and a load that is not aligned.
#![expect(unsafe_code, reason = "goes to CPL 3 and does not come back but by an exception")]

use crate::raw;
use core::arch::{asm, naked_asm};
use guest_kernel_shim::{console, interrupt, platform, println, probe};
use x86_64::instructions::tables::sidt;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr3};

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
const ALIGNMENT: u64 = 17;

/// A flag: loads and stores of user mode are checked for alignment, with CR0.AM.
const ALIGNMENT_CHECK: u64 = 1 << 18;

/// Makes INFO from CPL 3. Exception 6 from there is what should come; it ends this kernel.
pub fn call() {
    if !platform::is_cooperative() {
        println!("user: no calls in this mode");
        return;
    }
    println!("user: INFO from CPL 3");
    go(info, 0);
}

#[unsafe(naked)]
extern "C" fn info() {
    naked_asm!("mov eax, 0x434d0000", "xor edi, edi", "vmmcall", "hlt");
}

/// Loads from an odd address in user mode, with alignment checks on. Exception 17 should come, and end this kernel; 6, where the
/// processor checks no alignment.
pub fn misalign() {
    println!("alignment: an odd load from CPL 3");
    // SAFETY: alignment is checked in user mode only.
    unsafe { Cr0::update(|cr0| cr0.insert(Cr0Flags::ALIGNMENT_MASK)) };
    go(load_oddly, ALIGNMENT_CHECK);
}

#[unsafe(naked)]
extern "C" fn load_oddly() {
    naked_asm!("lea rax, [rip + {}]", "mov rax, [rax + 1]", "ud2", sym load_oddly);
}

/// Goes on at `code` in user mode, with these flags. An exception, on a stack of its own, ends this kernel.
fn go(code: extern "C" fn(), flags: u64) {
    console::flush();
    interrupt::disable();
    let efer = probe::rdmsr(EFER).unwrap_or(0);
    if raw::wrmsr(STAR, STAR_VALUE).is_err() || raw::wrmsr(EFER, efer | SYSCALL_ENABLE).is_err() {
        println!("user: SYSRET is not to be had");
        return;
    }
    let load = |at: u64| probe::load(at).unwrap_or(0);
    let root = Cr3::read().0.start_address().as_u64();
    let (upper, middle) = (root, load(root) & FRAME);
    let lower = load(middle) & FRAME;
    let entries = [upper, middle].into_iter().chain((0..RAM_ENTRIES).map(|n| lower + n * 8));
    for entry in entries {
        let _ = raw::store(entry, load(entry) | USER);
    }
    // The first fault stack: user mode has none that an exception could begin on.
    for vector in [INVALID_OPCODE, ALIGNMENT] {
        let gate = sidt().base.as_u64() + vector * 16;
        let _ = raw::store(gate, load(gate) & !(7 << (GATE_STACK * 8)) | 1 << (GATE_STACK * 8));
    }
    tlb::flush_all();
    // SAFETY: `code` ends in an exception, which ends this kernel.
    unsafe { asm!("sysretq", in("rcx") code as *const () as u64, in("r11") flags | 2, options(noreturn)) };
}
