//! Exceptions and interrupts: the IDT and its 256 stubs.
//!
//! The stub of an interrupt saves the caller-saved registers and calls the handler of its vector. The stub of an
//! exception saves all registers; an exception is either expected (see [`probing`]) or ends this kernel.
#![expect(unsafe_code, reason = "interrupt gates and the register frame that stubs build")]

use super::vectors;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;

/// The frame that an exception's stub pushes, lowest address first.
#[repr(C)]
pub(crate) struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// A 64-bit gate. Intel SDM vol 3, figure 6-8.
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    options: u16,
    offset_middle: u16,
    offset_high: u32,
    zero: u32,
}

const _: () = assert!(size_of::<Gate>() == 16 && size_of::<Frame>() == 176);

/// The code selector of the boot GDT and of [`super::descriptor`].
const CODE: u16 = 8;
/// Options of a gate: present, 64-bit interrupt gate, so IF is clear in the handler.
const INTERRUPT_GATE: u16 = 0x8e00;
/// NMI, double fault and machine check, which run on the fault stack.
const ON_FAULT_STACK: [usize; 3] = [2, 8, 18];
/// Bytes from one stub to the next.
const STUB_BYTES: usize = 16;

/// The IDT that all processors share.
pub(crate) fn table() -> &'static [impl Sized; 256] {
    static TABLE: Once<[Gate; 256]> = Once::new();
    TABLE.call_once(|| core::array::from_fn(gate))
}

#[expect(clippy::cast_possible_truncation, reason = "the parts of an address")]
fn gate(vector: usize) -> Gate {
    let offset = (stubs() + vector * STUB_BYTES) as u64;
    let stack = u16::from(ON_FAULT_STACK.contains(&vector));
    Gate {
        offset_low: offset as u16,
        selector: CODE,
        options: INTERRUPT_GATE | stack,
        offset_middle: (offset >> 16) as u16,
        offset_high: (offset >> 32) as u32,
        zero: 0,
    }
}

#[cfg(target_os = "none")]
fn stubs() -> usize {
    unsafe extern "C" {
        static trap_stubs: [u8; 256 * STUB_BYTES];
    }
    (&raw const trap_stubs).addr()
}

#[cfg(not(target_os = "none"))]
fn stubs() -> usize {
    0
}

/// Address at which execution resumes after an expected exception; 0 = none is expected. Only the first processor
/// probes.
static RESUME: AtomicU64 = AtomicU64::new(0);
/// Vector of the last expected exception.
static CAUGHT: AtomicU64 = AtomicU64::new(NOTHING_CAUGHT);
/// Value of [`CAUGHT`] if no exception occurred.
const NOTHING_CAUGHT: u64 = u64::MAX;

/// The function that ends this kernel after an unexpected exception.
static END: Once<fn(&Frame) -> !> = Once::new();

/// Registers the function that ends this kernel after an unexpected exception. Only the first registration counts;
/// until then such an exception ends in a triple fault.
pub(crate) fn end_by(end: fn(&Frame) -> !) {
    END.call_once(|| end);
}

/// Runs one instruction that may fault and returns the vector of its exception, if one occurred. Before it faults,
/// `instruction` must store the address behind the instruction in the word that it gets.
pub(crate) fn probing(instruction: impl FnOnce(*mut u64)) -> Option<u64> {
    CAUGHT.store(NOTHING_CAUGHT, Ordering::SeqCst);
    instruction(RESUME.as_ptr());
    RESUME.store(0, Ordering::SeqCst);
    Some(CAUGHT.load(Ordering::SeqCst)).filter(|&vector| vector != NOTHING_CAUGHT)
}

#[cfg_attr(target_os = "none", unsafe(no_mangle))]
extern "C" fn shim_exception(frame: &mut Frame) {
    let resume = RESUME.swap(0, Ordering::SeqCst);
    if resume != 0 {
        CAUGHT.store(frame.vector, Ordering::SeqCst);
        frame.rip = resume;
        return;
    }
    if frame.vector == 2 && vectors::nmi() {
        return;
    }
    match END.get() {
        Some(end) => end(frame),
        None => triple_fault(),
    }
}

/// Ends this machine by a triple fault: an exception while the IDT is empty.
pub fn triple_fault() -> ! {
    let nothing = x86_64::structures::DescriptorTablePointer { limit: 0, base: x86_64::VirtAddr::zero() };
    // SAFETY: INT3 finds no gate and neither do the faults that follow, so nothing runs after this.
    unsafe {
        x86_64::instructions::tables::lidt(&nothing);
        core::arch::asm!("int3", options(noreturn));
    }
}

#[cfg_attr(target_os = "none", unsafe(no_mangle))]
extern "C" fn shim_interrupt(vector: u8) {
    vectors::dispatch(vector);
}

#[cfg(target_os = "none")]
core::arch::global_asm!(
    r#"
    .text
    .balign 16
    .global trap_stubs
trap_stubs:
    .set trap_vector, 0
    .rept 256
    .balign 16
    .if trap_vector >= 32
        push trap_vector
        jmp trap_interrupt
    .else
        .if trap_vector != 8 && trap_vector != 10 && trap_vector != 11 && trap_vector != 12 && trap_vector != 13 && trap_vector != 14 && trap_vector != 17 && trap_vector != 21
        push 0
        .endif
        push trap_vector
        jmp trap_exception
    .endif
    .set trap_vector, trap_vector + 1
    .endr
    .balign 16

trap_interrupt:
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    mov rdi, [rsp + 72]
    cld
    call shim_interrupt
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 8
    iretq

trap_exception:
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    cld
    call shim_exception
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq
    "#
);
