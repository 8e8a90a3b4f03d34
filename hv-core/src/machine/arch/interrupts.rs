//! The hypervisor's own interrupts. It runs with IF clear (I-1): the machine's interrupts are let in at two places
//! only, [`take`] and [`wait`], and each handler does no more than note what came. Exceptions are our bugs.
#![expect(unsafe_code, reason = "IDT and its entry stubs")]

use super::apic::{KICK_VECTOR, SERIAL_VECTOR, SPURIOUS_VECTOR, TIMER_VECTOR};
use super::descriptors::{DOUBLE_FAULT_STACK, NMI_STACK};
use alloc::boxed::Box;
use core::arch::{asm, naked_asm};
use x86_64::structures::DescriptorTablePointer;
use x86_64::{PrivilegeLevel, VirtAddr};

/// A 64-bit interrupt gate (SDM vol 3 §6.14.1).
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    stack: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Gate>() == 16);
/// Present, interrupt gate.
const INTERRUPT_GATE: u8 = 0x8e;
const NMI: usize = 2;
const EXCEPTIONS: usize = 32;
const GATES: usize = 48;

/// What the processor pushed, and what the stub added.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    /// Which exception.
    pub vector: u64,
    /// Its error code, or 0.
    pub error: u64,
    /// Where.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

impl Gate {
    #[expect(clippy::cast_possible_truncation, reason = "a gate holds the address in three parts")]
    fn new(handler: usize, stack: Option<u16>) -> Self {
        let address = handler as u64;
        Self {
            offset_low: address as u16,
            selector: CODE_SELECTOR,
            stack: stack.map_or(0, |slot| slot as u8 + 1),
            kind: INTERRUPT_GATE,
            offset_middle: (address >> 16) as u16,
            offset_high: (address >> 32) as u32,
            reserved: 0,
        }
    }
}

/// The first descriptor of the GDT that `descriptors::install` makes.
const CODE_SELECTOR: u16 = 8 | PrivilegeLevel::Ring0 as u16;

/// Installs the IDT of this processor, for good. `descriptors::install` came first.
pub fn install() {
    let mut table = Box::new([Gate::default(); GATES]);
    for (vector, gate) in table.iter_mut().enumerate() {
        let stack = match vector {
            NMI | 18 => Some(NMI_STACK),
            8 => Some(DOUBLE_FAULT_STACK),
            _ => None,
        };
        let stub = EXCEPTION_STUBS.get(vector).copied().filter(|_| vector != NMI);
        let device =
            [TIMER_VECTOR, SERIAL_VECTOR, KICK_VECTOR].contains(&(u8::try_from(vector).unwrap_or(0)));
        *gate = match stub {
            Some(stub) => Gate::new(stub as *const () as usize, stack),
            None if vector == NMI => Gate::new(nmi as *const () as usize, stack),
            None if device => Gate::new(acknowledge as *const () as usize, None),
            None => Gate::new(ignore as *const () as usize, None),
        };
    }
    let base = VirtAddr::from_ptr(Box::leak(table));
    let limit = u16::try_from(GATES * size_of::<Gate>() - 1).unwrap_or(0);
    // SAFETY: the table is leaked, so it stays; every gate names a stub of this file at CPL 0.
    unsafe { x86_64::instructions::tables::lidt(&DescriptorTablePointer { limit, base }) };
    let _ = SPURIOUS_VECTOR; // handled by `ignore`: a spurious interrupt gets no EOI
}

/// Lets the interrupts that wait in, and closes the door again. STI holds for one more instruction, hence the NOP.
#[inline]
pub fn take() {
    // SAFETY: the IDT is installed, and its handlers preserve every register.
    unsafe { asm!("sti", "nop", "cli", options(nostack)) };
}

/// Halts until an interrupt came in.
pub fn wait() {
    // SAFETY: as in `take`; STI's shadow makes STI and HLT one step, so no interrupt is lost between them.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// End of interrupt at the local APIC, and nothing else: the main loop looks at the clock and at the lines itself.
#[unsafe(naked)]
unsafe extern "C" fn acknowledge() {
    naked_asm!("push rax", "mov eax, 0xfee000b0", "mov dword ptr [rax], 0", "pop rax", "iretq")
}

#[unsafe(naked)]
unsafe extern "C" fn ignore() {
    naked_asm!("iretq")
}

/// Keeps what a call may change, and goes back where it came from. The frame is laid out as for an exception.
#[unsafe(naked)]
unsafe extern "C" fn nmi() {
    naked_asm!(
        "push 0", "push 2",
        "push rax", "push rcx", "push rdx", "push rsi", "push rdi", "push r8", "push r9", "push r10", "push r11",
        "push rbp", "mov rbp, rsp", "lea rdi, [rsp + 80]", "and rsp, -16", "cld",
        "call {on_nmi}",
        "mov rsp, rbp", "pop rbp",
        "pop r11", "pop r10", "pop r9", "pop r8", "pop rdi", "pop rsi", "pop rdx", "pop rcx", "pop rax",
        "add rsp, 16", "iretq",
        on_nmi = sym super::stop::on_nmi,
    )
}

/// Ends in the panic handler's epitaph.
#[expect(clippy::panic, reason = "an exception in the hypervisor is a bug of ours")]
extern "sysv64" fn exception(frame: &Frame) -> ! {
    panic!("exception {} error {:#x} at {:#x} rsp {:#x}", frame.vector, frame.error, frame.rip, frame.rsp)
}

#[unsafe(naked)]
unsafe extern "C" fn common() {
    naked_asm!("mov rdi, rsp", "and rsp, -16", "xor ebp, ebp", "call {exception}", exception = sym exception)
}

macro_rules! stubs {
    ($($vector:literal $push:literal),* $(,)?) => {
        /// One a vector: pushes what the processor did not, then the vector.
        static EXCEPTION_STUBS: [unsafe extern "C" fn(); EXCEPTIONS] = [$({
            #[unsafe(naked)]
            unsafe extern "C" fn stub() {
                naked_asm!($push, concat!("push ", $vector), "jmp {common}", common = sym common)
            }
            stub
        }),*];
    };
}

stubs! {
    0 "push 0", 1 "push 0", 2 "push 0", 3 "push 0", 4 "push 0", 5 "push 0", 6 "push 0", 7 "push 0",
    8 "", 9 "push 0", 10 "", 11 "", 12 "", 13 "", 14 "", 15 "push 0",
    16 "push 0", 17 "", 18 "push 0", 19 "push 0", 20 "push 0", 21 "", 22 "push 0", 23 "push 0",
    24 "push 0", 25 "push 0", 26 "push 0", 27 "push 0", 28 "push 0", 29 "", 30 "", 31 "push 0",
}
