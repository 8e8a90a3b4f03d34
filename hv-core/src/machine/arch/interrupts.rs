//! The hypervisor's own interrupts. The hypervisor runs with IF clear (I-1): it lets the machine's interrupts in at two places
//! only, [`take`] and [`wait`], and each handler only records the interrupt. An exception is a bug of the hypervisor; a machine check
//! is a fault of the machine.
//!
//! Each of the 256 vectors has a gate: firmware, loaders and devices that the hypervisor has not configured may send any vector, and a
//! vector that stays in service blocks its own priority class and those below.
#![expect(unsafe_code, reason = "IDT and its entry stubs")]

use super::apic::{self, KICK_VECTOR, SERIAL_VECTOR, SPURIOUS_VECTOR, TIMER_VECTOR};
use super::descriptors::{DOUBLE_FAULT_STACK, MACHINE_CHECK_STACK, NMI_STACK};
use super::{bochs, machine_check, stop};
use core::arch::{asm, naked_asm};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use spin::Once;
use x86_64::VirtAddr;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::idt::{Entry, HandlerFunc};

/// A 64-bit interrupt gate (SDM vol 3 §6.14.1). The stubs account for the error code that the processor may push.
type Gate = Entry<HandlerFunc>;

const DEBUG: u8 = 1;
const NMI: u8 = 2;
const DOUBLE_FAULT: u8 = 8;
/// Lowest vector that local APICs deliver (SDM vol 3A §11.5.2); the vectors up to 31 are exceptions too.
const FIRST_DELIVERED: u8 = 16;
/// Lowest vector that is not an exception's.
const FIRST_INTERRUPT: u8 = 32;
const INTERRUPTS_ON: u64 = 1 << 9;
/// Gates of the IDT, one for each possible vector: a VMX exit sets the limit of the IDT to 0xffff, regardless of ours (SDM vol 3C
/// §27.5.2).
const GATES: usize = 256;

/// The IDT of all processors; it names interrupt stacks by number, and each processor's TSS has its own stacks.
static TABLE: Once<[Gate; GATES]> = Once::new();

/// Number of stray interrupts, and the last one's vector.
static STRAYS: AtomicU64 = AtomicU64::new(0);
static LAST_STRAY: AtomicU64 = AtomicU64::new(0);

/// The stack frame of an exception: the words that the processor pushed, and those that the stub added.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    /// Vector, pushed by the stub.
    pub vector: u64,
    /// Error code, or 0 if the exception has none.
    pub error: u64,
    /// Address of the interrupted instruction.
    pub rip: u64,
    /// Selector of the interrupted code segment.
    pub cs: u64,
    /// RFLAGS at the interruption.
    pub rflags: u64,
    /// RSP at the interruption.
    pub rsp: u64,
    /// Selector of the interrupted stack segment.
    pub ss: u64,
}

/// Returns all gates; `acknowledge` is the handler of the hypervisor's own interrupts, `debug` that of #DB. Handlers run in the code
/// segment that is loaded now.
fn gates(acknowledge: usize, debug: usize) -> [Gate; GATES] {
    let mut table = [Gate::missing(); GATES];
    for (vector, gate) in (0..=u8::MAX).zip(&mut table) {
        let stack = match vector {
            NMI => Some(NMI_STACK),
            DOUBLE_FAULT => Some(DOUBLE_FAULT_STACK),
            machine_check::VECTOR => Some(MACHINE_CHECK_STACK),
            _ => None,
        };
        let handler = match vector {
            TIMER_VECTOR | SERIAL_VECTOR | KICK_VECTOR => acknowledge,
            DEBUG => debug,
            other => stub(other),
        };
        // SAFETY: each handler is one of this file's, made for its vector; the stacks are those of the TSS.
        unsafe {
            let options = gate.set_handler_addr(VirtAddr::new_truncate(handler as u64));
            stack.map(|stack| options.set_stack_index(stack));
        }
    }
    table
}

/// Returns the address of a vector's stub, its default handler.
fn stub(vector: u8) -> usize {
    stubs as *const () as usize + usize::from(vector) * STUB_BYTES
}

/// Installs the IDT on this processor, for good. The caller has run `percpu::install` and `descriptors::install`: an NMI may arrive at once.
pub fn install() {
    let acknowledge = match apic::mode() {
        apic::Mode::Xapic => acknowledge as *const () as usize,
        apic::Mode::X2apic => acknowledge_by_msr as *const () as usize,
    };
    let debug = || if bochs::is_it() { go_back as *const () as usize } else { stub(DEBUG) };
    let base = VirtAddr::from_ptr(TABLE.call_once(|| gates(acknowledge, debug())));
    let limit = u16::try_from(GATES * size_of::<Gate>() - 1).unwrap_or(u16::MAX);
    // SAFETY: the table is static and never changes again; every gate names a stub of this file at CPL 0.
    unsafe { x86_64::instructions::tables::lidt(&DescriptorTablePointer { limit, base }) };
}

/// Returns the number of stray interrupts and the vector of the last one; `None` if there was none.
pub fn strays() -> Option<(u64, u64)> {
    let count = STRAYS.load(Relaxed);
    (count != 0).then(|| (count, LAST_STRAY.load(Relaxed)))
}

/// Takes the pending interrupts, with IF set for one instruction. STI takes effect one instruction later, hence the NOP.
#[inline]
pub fn take() {
    // SAFETY: the IDT is installed, and its handlers preserve every register.
    unsafe { asm!("sti", "nop", "cli", options(nostack)) };
}

/// Halts until the processor has taken an interrupt or an NMI.
pub fn wait() {
    // SAFETY: as in `take`.
    unsafe { halt() };
}

/// Halts with IF set. STI's shadow makes STI and HLT one step for maskable interrupts. An NMI may still arrive between them (SDM vol 2B,
/// STI), and its IRET ends the shadow: the processor would take a pending interrupt before HLT, and then halt without a wake-up. So an
/// NMI handler that would return to HLT returns past it ([`arrived`]).
///
/// # Safety
///
/// The IDT is installed.
#[unsafe(naked)]
unsafe extern "C" fn halt() {
    naked_asm!("sti", "hlt", "cli", "ret")
}

/// Lengths of the instructions STI and HLT, in bytes.
const STI_BYTES: u64 = 1;
const HLT_BYTES: u64 = 1;

/// Returns the address at which to resume after an interruption at `rip`, with [`halt`] at address `halt`.
const fn past_halt(rip: u64, halt: u64) -> u64 {
    if rip == halt + STI_BYTES { rip + HLT_BYTES } else { rip }
}

/// Writes EOI to the local APIC, and does nothing else: the main loop polls the clock and the serial lines itself.
#[unsafe(naked)]
unsafe extern "C" fn acknowledge() {
    naked_asm!("push rax", "mov eax, {eoi}", "mov dword ptr [rax], 0", "pop rax", "iretq", eoi = const apic::EOI_ADDRESS)
}

/// [`acknowledge`] in x2APIC mode.
#[unsafe(naked)]
unsafe extern "C" fn acknowledge_by_msr() {
    naked_asm!(
        "push rax", "push rcx", "push rdx", "xor eax, eax", "xor edx, edx", "mov ecx, {eoi}", "wrmsr",
        "pop rdx", "pop rcx", "pop rax", "iretq",
        eoi = const apic::EOI_MSR,
    )
}

/// Handles #DB on Bochs, which raises the #DB of a guest's single step in the hypervisor if SVM intercepted the instruction: before the
/// host's VMLOAD, so the handler does not touch GS (I-3). The #DB counts as stray, unless the hypervisor itself has TF set.
#[unsafe(naked)]
unsafe extern "C" fn go_back() {
    naked_asm!(
        "test byte ptr [rsp + 17], 1", "jnz {stubs} + {stub}",
        "lock inc qword ptr [rip + {strays}]", "mov qword ptr [rip + {last}], {vector}", "iretq",
        stubs = sym stubs, stub = const DEBUG as usize * STUB_BYTES,
        strays = sym STRAYS, last = sym LAST_STRAY, vector = const DEBUG,
    )
}

/// Length of each of the [`stubs`], in bytes.
const STUB_BYTES: usize = 12;

/// The stubs, one for each vector, all of one length: each pushes a zero if the processor pushes no error code, and the vector. The
/// processor pushes an error code for 8, 10 to 14, 17, 21, 29 and 30 (SDM vol 3A table 6-1; AMD APM vol 2 table 8-1).
#[unsafe(naked)]
unsafe extern "C" fn stubs() {
    naked_asm!(
        ".set .Lstub_vector, 0",
        ".rept {gates}",
        ".if ({with_error} >> (.Lstub_vector & 31)) & (.Lstub_vector < 32) & 1",
        ".byte 0x66, 0x90", // NOP
        ".else",
        ".byte 0x6a, 0", // PUSH
        ".endif",
        ".byte 0x68", // PUSH
        ".long .Lstub_vector",
        ".byte 0xe9", // JMP
        ".long {common} - . - 4",
        ".set .Lstub_vector, .Lstub_vector + 1",
        ".endr",
        gates = const GATES,
        with_error = const WITH_ERROR_CODE,
        common = sym common,
    )
}

/// Exceptions with an error code: bit n is vector n.
const WITH_ERROR_CODE: u32 = 1 << 8 | 0b11111 << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;

/// The common part of the stubs. An exception does not return. Any other vector saves the registers that a call may change, and returns
/// to the interrupted code. The processor pushes no error code for an interrupt, even if its vector is an exception's; it aligns its
/// frame to 16 bytes (SDM vol 3A §6.14.2), so RSP shows that this word is missing.
#[unsafe(naked)]
unsafe extern "C" fn common() {
    naked_asm!(
        "cld",
        "test spl, 8", "jnz 2f", "push qword ptr [rsp]",
        "2: push rax", "push rcx", "push rdx", "push rsi", "push rdi", "push r8", "push r9", "push r10", "push r11",
        "push rbp", "push rbx", "mov rbx, rsp", "lea rdi, [rsp + 88]", "and rsp, -16", "xor ebp, ebp",
        "call {arrived}",
        "mov rsp, rbx", "pop rbx", "pop rbp",
        "pop r11", "pop r10", "pop r9", "pop r8", "pop rdi", "pop rsi", "pop rdx", "pop rcx", "pop rax",
        "add rsp, 16", "iretq",
        arrived = sym arrived,
    )
}

/// Kind of event that a vector stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Came {
    Nmi,
    Exception,
    /// An interrupt without an owner, already ended.
    Stray,
    /// A spurious interrupt of the local APIC, without a cause.
    Spurious,
}

/// Classifies an event. A device that the hypervisor has not configured may send the vector of an exception; the processor takes such
/// an interrupt only with IF set, and it is then in service. An interrupt of the 8259s is real, but not in service.
fn came(vector: u8, rflags: u64, end_if_in_service: impl FnOnce(u8) -> bool) -> Came {
    let first = if rflags & INTERRUPTS_ON == 0 { FIRST_INTERRUPT } else { FIRST_DELIVERED };
    match vector {
        NMI => Came::Nmi,
        _ if vector >= first && end_if_in_service(vector) => Came::Stray,
        ..FIRST_INTERRUPT => Came::Exception,
        SPURIOUS_VECTOR => Came::Spurious,
        _ => Came::Stray,
    }
}

/// Handles the event of a stub: stops on an NMI, panics on an exception, counts a stray interrupt.
extern "sysv64" fn arrived(frame: &mut Frame) {
    let vector = u8::try_from(frame.vector).unwrap_or(0);
    match came(vector, frame.rflags, apic::end_if_in_service) {
        Came::Nmi => stop::on_nmi(frame.rip),
        Came::Exception => exception(frame),
        Came::Stray => {
            STRAYS.fetch_add(1, Relaxed);
            LAST_STRAY.store(frame.vector, Relaxed);
        }
        Came::Spurious => {}
    }
    frame.rip = past_halt(frame.rip, halt as *const () as u64);
}

/// Panics with the exception's or the machine check's data.
#[expect(
    clippy::panic,
    reason = "an exception in the hypervisor is a bug of ours, and after a machine check nothing is to be relied on"
)]
fn exception(frame: &Frame) -> ! {
    if frame.vector == u64::from(machine_check::VECTOR) {
        panic!("machine check at {:#x}:{}", frame.rip, machine_check::Banks)
    }
    panic!("exception {} error {:#x} at {:#x} rsp {:#x}", frame.vector, frame.error, frame.rip, frame.rsp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use x86_64::instructions::segmentation::{CS, Segment};

    #[test]
    fn every_vector_has_a_gate_and_what_may_come_on_a_bad_stack_has_one_of_its_own() {
        let table = gates(acknowledge as *const () as usize, stub(DEBUG));
        assert_eq!(size_of_val(&table), 0x1000);
        // SAFETY: a gate is 16 bytes without padding.
        let bytes = |gate: &Gate| unsafe { core::mem::transmute::<Gate, [u8; 16]>(*gate) };
        let selector = CS::get_reg().0.to_le_bytes();
        for (vector, gate) in table.iter().enumerate() {
            let [_, _, s0, s1, _, kind, _, _, _, _, _, _, reserved @ ..] = bytes(gate);
            assert_eq!((kind, [s0, s1], reserved), (0x8e, selector, [0; 4]), "{vector:#x}");
            let ours = [0x20, 0x21, 0x22].contains(&vector);
            let stub = stubs as *const () as u64 + (vector * STUB_BYTES) as u64;
            let handler = if ours { acknowledge as *const () as u64 } else { stub };
            assert_eq!(gate.handler_addr().as_u64(), handler, "{vector:#x}");
        }
        let mut own: std::vec::Vec<u8> = [2, 8, 18].map(|vector: usize| bytes(&table[vector])[4]).into();
        own.sort_unstable();
        own.dedup();
        assert_eq!(own, [1, 2, 3], "a machine check does not overwrite an NMI's frame");
        assert_eq!(table.iter().filter(|gate| bytes(gate)[4] != 0).count(), 3);
    }

    #[test]
    fn each_stub_pushes_its_vector_and_an_error_code_where_the_processor_does_not() {
        let start = (stubs as *const ()).cast::<u8>();
        for vector in 0..GATES {
            // SAFETY: each stub is `STUB_BYTES` bytes of code, which may be read.
            let stub = unsafe { core::slice::from_raw_parts(start.add(vector * STUB_BYTES), STUB_BYTES) };
            let has_error = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
            let first = if has_error { [0x66, 0x90] } else { [0x6a, 0] };
            let mut expected = first.to_vec();
            expected.extend([0x68, u8::try_from(vector).unwrap(), 0, 0, 0, 0xe9]);
            assert_eq!(stub[..8], expected, "{vector:#x}");
            let offset = i32::from_le_bytes(*stub[8..].first_chunk().unwrap());
            let target = (stub.as_ptr() as i64) + STUB_BYTES as i64 + i64::from(offset);
            assert_eq!(target, common as *const () as i64, "{vector:#x}");
        }
    }

    #[test]
    fn a_device_may_send_the_vector_of_an_exception() {
        let with = |vector, rflags, in_service| {
            came(vector, rflags, |asked| {
                assert_eq!(asked, vector);
                in_service
            })
        };
        for vector in 0..=u8::MAX {
            let (in_service, not) = (with(vector, INTERRUPTS_ON, true), with(vector, INTERRUPTS_ON, false));
            let expected = match vector {
                NMI => (Came::Nmi, Came::Nmi),
                0..=15 => (Came::Exception, Came::Exception),
                16..=31 => (Came::Stray, Came::Exception),
                SPURIOUS_VECTOR => (Came::Stray, Came::Spurious),
                _ => (Came::Stray, Came::Stray),
            };
            assert_eq!((in_service, not), expected, "{vector:#x}");
        }
        assert_eq!(with(17, 2, true), Came::Exception, "no interrupt comes with IF clear");
    }

    #[test]
    fn an_nmi_between_sti_and_hlt_goes_past_hlt() {
        for (rip, on) in [(0x1000, 0x1000), (0x1001, 0x1002), (0x1002, 0x1002), (0x2001, 0x2001)] {
            assert_eq!(past_halt(rip, 0x1000), on, "{rip:#x}");
        }
        let code = (halt as *const ()).cast::<u8>();
        // SAFETY: the function is at least 4 bytes of code, which may be read.
        assert_eq!(unsafe { core::slice::from_raw_parts(code, 4) }, [0xfb, 0xf4, 0xfa, 0xc3]);
    }
}
