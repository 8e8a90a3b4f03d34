//! Events where they meet: an interrupt that waits and a task priority that changes, NMIs inside NMIs, a single step over what is emulated.
#![expect(unsafe_code, reason = "CR8, the task register, HLT and TF")]

use crate::check::Check;
use crate::debug::{self, watch};
use crate::raw;
use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU64, Ordering};
use guest_kernel_shim::probe::{self, Fault, Privileged, Width};
use guest_kernel_shim::pv_abi::cpuid::{CallInstruction, TIME_LEAF};
use guest_kernel_shim::{call, interrupt, platform};
use x86_64::instructions::tables::sgdt;

const ICR: u32 = 0x830;
/// Bit 41 of a descriptor: a task-state segment is busy.
const TASK_BUSY: u64 = 1 << 41;
const ICR_NMI: u32 = 0x4400;
const SELF_IPI: u32 = 0x83f;
/// Read as zero, written without effect.
const MICROCODE: u32 = 0x8b;
/// A port with nothing behind it.
const NO_PORT: u16 = 0x2f0;
/// BS of DR6.
const STEP: u64 = 1 << 14;
const VECTOR: u8 = 0x73;
/// CR8 that holds the vector back, and one that does not.
const ABOVE: u64 = 15;
const BELOW: u64 = 0;

static TAKEN: AtomicU64 = AtomicU64::new(0);

fn cr8() -> u64 {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr8", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

fn set_cr8(value: u64) {
    // SAFETY: interrupts that are held back come later; nothing here waits for one of a lower class.
    unsafe { asm!("mov cr8, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// Interrupts this processor by itself.
fn interrupt_self() {
    if platform::is_cooperative() {
        let _ = call::ipi(0, VECTOR);
    } else {
        let _ = raw::wrmsr(SELF_IPI, VECTOR.into());
    }
}

/// Writes CR8 while an interrupt waits for IF, and while one waits for CR8.
pub fn priority(check: &mut Check) {
    interrupt::handle(VECTOR, || {
        TAKEN.fetch_add(1, Ordering::SeqCst);
    });
    let taken = || TAKEN.swap(0, Ordering::SeqCst);
    for round in 0..20 {
        interrupt::disable();
        interrupt_self();
        for value in [ABOVE, 7, BELOW, ABOVE, 1, BELOW] {
            set_cr8(value);
            check.one_of(format_args!("CR8 in round {round}"), cr8(), &[value]);
        }
        check.one_of(format_args!("taken with IF clear"), taken(), &[0]);
        interrupt::enable();
        probe_often();
        check.one_of(format_args!("taken with IF set"), taken(), &[1]);
        // In a cooperative guest CR8 holds nothing back.
        if !platform::is_cooperative() {
            set_cr8(ABOVE);
            interrupt_self();
            probe_often();
            check.one_of(format_args!("taken above its priority"), taken(), &[0]);
            set_cr8(8);
            check.one_of(format_args!("CR8"), cr8(), &[8]);
            check.one_of(format_args!("taken still above its priority"), taken(), &[0]);
            set_cr8(BELOW);
            probe_often();
            check.one_of(format_args!("taken below its priority"), taken(), &[1]);
        }
    }
}

fn probe_often() {
    for _ in 0..20 {
        let _ = probe::read_port(NO_PORT, Width::Byte);
    }
}

/// Loads the task register with nothing, and with what it holds; then an NMI, whose gate names a stack of the task's.
pub fn task(check: &mut Check) {
    let refused = raw::execute(Privileged::NullTask);
    check.one_of(format_args!("LTR of nothing"), refused.err().map_or(0, |fault| fault.0), &[Fault::GP.0]);
    let task: u16;
    // SAFETY: reads TR.
    unsafe { asm!("str {0:x}", out(reg) task, options(nomem, nostack, preserves_flags)) };
    let entry = sgdt().base.as_u64() + u64::from(task);
    let available = probe::load(entry).map(|descriptor| descriptor & !TASK_BUSY);
    check.holds(format_args!("TR is as it was"), available.and_then(|low| raw::store(entry, low)).is_ok());
    // SAFETY: the same task as before, made available again.
    unsafe { asm!("ltr {0:x}", in(reg) task, options(nostack, preserves_flags)) };
    nmi(check);
}

static DEPTH: AtomicU64 = AtomicU64::new(0);
static DEEPEST: AtomicU64 = AtomicU64::new(0);
static TOTAL: AtomicU64 = AtomicU64::new(0);

fn nmi_self() {
    if platform::is_cooperative() {
        let _ = call::nmi(0);
    } else {
        // Not by `raw`, which would take the NMI for its own fault.
        // SAFETY: the NMI has a handler.
        unsafe {
            asm!("wrmsr", in("ecx") ICR, in("eax") ICR_NMI, in("edx") 0, options(nostack, preserves_flags))
        };
    }
}

fn in_nmi() {
    DEEPEST.fetch_max(DEPTH.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    if TOTAL.fetch_add(1, Ordering::SeqCst) == 0 {
        nmi_self();
        probe_often();
    }
    DEPTH.fetch_sub(1, Ordering::SeqCst);
}

/// Sends an NMI from the handler of one: it comes when that has returned.
pub fn nmi(check: &mut Check) {
    interrupt::handle_nmi(in_nmi);
    for round in 0..20 {
        TOTAL.store(0, Ordering::SeqCst);
        nmi_self();
        probe_often();
        check.one_of(format_args!("NMIs in round {round}"), TOTAL.load(Ordering::SeqCst), &[2]);
        check.one_of(format_args!("at once"), DEEPEST.load(Ordering::SeqCst), &[1]);
    }
}

/// Runs so many instructions under TF, with RCX an MSR that nothing depends on, and three more to end that.
macro_rules! step {
    ($check:ident, $count:literal, $($code:literal),+) => {{
        // SAFETY: #DB's handler is ours; the instructions change no memory, and no registers but these and RBX and RDI.
        let got = watch([0; 2], 0, || unsafe {
            asm!(
                "push rbx", "push rdi", "pushfq", "or dword ptr [rsp], 0x100", "popfq",
                $($code,)+
                "pushfq", "and dword ptr [rsp], 0xfffffeff", "popfq", "pop rdi", "pop rbx",
                inout("rax") 0_u64 => _, inout("rcx") u64::from(MICROCODE) => _, inout("rdx") 0_u64 => _,
            );
        });
        let name = [$($code),+];
        $check.one_of(format_args!("{name:?}: exceptions"), got.0, &[$count + 3]);
        $check.one_of(format_args!("{name:?}: DR6"), got.1, &[STEP]);
    }};
}

/// Steps over each instruction that exits and is emulated.
pub fn steps(check: &mut Check) {
    debug::install(0);
    step!(check, 1, "nop");
    step!(check, 1, "cpuid");
    step!(check, 1, "rdmsr");
    step!(check, 1, "wrmsr");
    step!(check, 1, "in al, 0x80");
    step!(check, 1, "out 0x80, al");
    step!(check, 1, "pause");
    step!(check, 1, "wbinvd");
    step!(check, 1, "hlt");
    step!(check, 2, "mov rax, cr8", "mov cr8, rax");
    step!(check, 2, "mov rax, cr0", "mov cr0, rax");
    if !platform::is_cooperative() {
        step!(check, 2, "mov ecx, 0xfec00000", "mov eax, [rcx]"); // the I/O APIC
    } else if CallInstruction(__cpuid(TIME_LEAF).ecx) == CallInstruction::VMCALL {
        step!(check, 3, "xor edi, edi", "mov eax, 0x434d0000", "vmcall");
    } else {
        step!(check, 3, "xor edi, edi", "mov eax, 0x434d0000", "vmmcall");
    }
}
