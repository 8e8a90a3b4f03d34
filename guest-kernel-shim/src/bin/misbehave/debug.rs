//! Debug exceptions: each kind comes once, says what it is for, and can come without end.
#![expect(unsafe_code, reason = "debug registers, TF, and a handler of its own for #DB")]

use crate::check::Check;
use crate::{raw, storms};
use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_shim::{console, interrupt, println, probe};
use x86_64::instructions::tables::{sgdt, sidt};

/// As after a reset; bits that are always set.
const DR6_CLEAR: u64 = 0xffff_0ff0;
const DR7_CLEAR: u64 = 0x400;
/// Bits of DR6.
const B0: u64 = 1 << 0;
const B1: u64 = 1 << 1;
const BD: u64 = 1 << 13;
const BS: u64 = 1 << 14;
/// Bits of DR7: breakpoint 0 for writes of eight bytes, breakpoint 1 for execution, and "general detect".
const WATCH_0: u64 = 1 << 0 | 0b1001 << 16;
const BREAK_1: u64 = 1 << 2;
const GENERAL_DETECT: u64 = 1 << 13;
/// The gate of #DB, and its byte that names a stack.
const DEBUG_GATE: u64 = 16;
const GATE_STACK: u64 = 4;

/// Byte of a task-state segment that names the first stack for gates.
const FIRST_STACK: u64 = 36;

static COUNT: AtomicU64 = AtomicU64::new(0);
/// DR6 of all of them.
static CAUSES: AtomicU64 = AtomicU64::new(0);
static WATCHED: AtomicU64 = AtomicU64::new(0);

/// Counts, notes and clears DR6, and goes on past a breakpoint on an instruction (RF).
#[unsafe(naked)]
extern "C" fn handler() {
    naked_asm!(
        "push rax",
        "mov rax, dr6",
        "or [rip + {causes}], rax",
        "inc qword ptr [rip + {count}]",
        "mov eax, {clear}",
        "mov dr6, rax",
        "or dword ptr [rsp + 24], 0x10000",
        "pop rax",
        "iretq",
        causes = sym CAUSES, count = sym COUNT, clear = const DR6_CLEAR,
    );
}

/// Puts the handler into the gate of #DB, with a stack of the task's (1 … 7) or the current one (0).
pub fn install(stack: u64) {
    let gate = sidt().base.as_u64() + DEBUG_GATE;
    let at = handler as *const () as u64;
    let low = probe::load(gate).unwrap_or(0);
    let selector_and_type = low & 0x0000_fff8_ffff_0000;
    let _ = raw::store(
        gate,
        selector_and_type | stack << (GATE_STACK * 8) | at & 0xffff | (at >> 16 & 0xffff) << 48,
    );
    let _ = raw::store(gate + 8, at >> 32);
}

/// Ends with a breakpoint for writes on.
pub fn leave_a_breakpoint() {
    static WATCHED: AtomicU64 = AtomicU64::new(0);
    println!("breakpoint: on");
    console::flush();
    // SAFETY: nobody writes there.
    unsafe {
        asm!("mov dr0, {}", "mov dr7, {}", in(reg) WATCHED.as_ptr(), in(reg) WATCH_0 | DR7_CLEAR, options(nostack));
    }
    probe::triple_fault();
}

/// Runs `what` with interrupts off under DR0, DR1 and DR7; answers how many #DB came and what they were for.
pub fn watch(addresses: [u64; 2], dr7: u64, what: impl FnOnce()) -> (u64, u64) {
    interrupt::without(|| {
        COUNT.store(0, Ordering::SeqCst);
        CAUSES.store(0, Ordering::SeqCst);
        // SAFETY: the handler of #DB is ours, and harms nothing.
        unsafe {
            asm!("mov dr0, {}", "mov dr1, {}", in(reg) addresses[0], in(reg) addresses[1], options(nostack));
            asm!("mov dr6, {}", "mov dr7, {}", in(reg) DR6_CLEAR, in(reg) dr7 | DR7_CLEAR, options(nostack));
        }
        what();
        // SAFETY: no breakpoint is left.
        unsafe { asm!("mov dr7, {}", in(reg) DR7_CLEAR, options(nostack)) };
        (COUNT.load(Ordering::SeqCst), CAUSES.load(Ordering::SeqCst) & !DR6_CLEAR)
    })
}

/// Steps over eight instructions, and over three that end it.
fn step() {
    // SAFETY: #DB's handler is ours; flags are as before in the end, but for the arithmetic ones.
    unsafe {
        asm!(
            "pushfq",
            "or dword ptr [rsp], 0x100",
            "popfq",
            ".rept 8",
            "nop",
            ".endr",
            "pushfq",
            "and dword ptr [rsp], 0xfffffeff",
            "popfq",
        );
    }
}

/// Every kind of #DB that all emulators have.
pub fn exceptions(check: &mut Check) {
    install(0);
    expect(check, "steps", watch([0; 2], 0, step), (11, BS));
    let watched = WATCHED.as_ptr() as u64;
    let store = || WATCHED.store(1, Ordering::SeqCst);
    expect(check, "data", watch([watched, 0], WATCH_0, store), (1, B0));
    let target = here as *const () as u64;
    expect(check, "execution", watch([0, target], BREAK_1, || here()), (1, B1));
}

/// A function whose first instruction is broken at.
#[unsafe(naked)]
extern "C" fn here() {
    naked_asm!("nop", "ret");
}

/// The kinds that QEMU's translator does not have: it forgets GD, and takes INT1 for its own debugger's.
pub fn rare_exceptions(check: &mut Check) {
    install(0);
    // SAFETY: reading DR0 changes nothing.
    let detect = || unsafe { asm!("mov {}, dr0", out(reg) _, options(nomem, nostack)) };
    expect(check, "debug registers", watch([0; 2], GENERAL_DETECT, detect), (1, BD));
    // SAFETY: the handler of #DB is ours.
    let int1 = || unsafe { asm!(".byte 0xf1") };
    expect(check, "INT1", watch([0; 2], 0, int1), (1, 0));
}

/// Compares how many came and what for.
fn expect(check: &mut Check, name: &str, got: (u64, u64), wanted: (u64, u64)) {
    check.one_of(format_args!("{name}: exceptions"), got.0, &[wanted.0]);
    check.one_of(format_args!("{name}: DR6"), got.1, &[wanted.1]);
}

/// Steps without end.
pub fn steps(check: &mut Check) {
    install(0);
    storms::report(check, "step", storms::storm(|_| step()));
}

/// A breakpoint on the stack that its own delivery writes to: a processor delivers it for ever (CVE-2015-8104).
pub fn endless() {
    println!("endless: a watched stack");
    console::flush();
    interrupt::disable();
    install(1);
    let task: u16;
    // SAFETY: reads TR.
    unsafe { asm!("str {0:x}", out(reg) task, options(nomem, nostack, preserves_flags)) };
    let entry = sgdt().base.as_u64() + u64::from(task);
    let load = |at| probe::load(at).unwrap_or(0);
    let (low, high) = (load(entry), load(entry + 8));
    let segment = low >> 16 & 0xff_ffff | low >> 56 << 24 | high << 32;
    let top = load(segment + FIRST_STACK);
    let at = (top & !0xf) - 8;
    let got = watch([at, 0], WATCH_0, || {
        let _ = raw::store(at, 0);
    });
    println!("endless: {} exceptions at {at:#x}", got.0);
}
