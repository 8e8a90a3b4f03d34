//! Deviations of QEMU's translator (TCG 7.2) from the manuals that the hypervisor works around.
//!
//! If each processor has a host thread of its own, `helper_vmrun` sets the virtual interrupt's bit of
//! `interrupt_request` without the lock. A bit that another thread sets at that instant, the timer's or a kick's, is lost: the
//! APIC holds the vector in IRR, but the translator does not look there until another interrupt arrives. So with threads
//! - interrupts are injected as events, and V_IRQ only watches for the guest's interrupt window, and
//! - the timer runs in periodic mode until the hypervisor has seen it.
//!
//! A lost kick is noticed at the next exit, at the latest the one that ends the watch for the interrupt window.
//!
//! FXRSTOR, on any processor, clears a bit in the first processor's `hflags2` (`cpu_clear_ignne`), again without a lock. If
//! the first processor enters or leaves guest mode at that instant, it loses the flags that VMRUN or #VMEXIT sets there, such as
//! nested paging: it then looks for a guest's page tables in the hypervisor's memory. So with threads
//! - the FPU's state is restored without FXRSTOR if the guest left x87 in its state after reset. A guest that uses x87 or FXRSTOR
//!   itself, on a processor other than the first, can still bring the first one down.
//!
//! The translator takes V_IRQ if V_INTR_PRIO is not below V_TPR (`ctl_has_irq`); the manual says above (APM vol 2 §15.21.2). A window
//! for a class that equals the task priority would open at once, and again after each exit: the hypervisor watches for the class below.
//!
//! If the translator counts instructions, it has one thread and no race. But an injected interrupt stays in `exception_index` after
//! its delivery: if the translator leaves its loop before the next exit, as it does whenever an icount budget ends, the guest
//! gets the vector again, even with IF clear. So with counting, interrupts are injected as virtual ones.
//!
//! The translator keeps a breakpoint from one MOV to DR7 until the next, which removes it as the type that DR7 has by then; but VMRUN
//! and #VMEXIT exchange DR7 alone. A removal as another type ends the translator (`hw_breakpoint_remove`). So before a vCPU gets the
//! debug registers, the hypervisor removes another vCPU's breakpoints by means of that vCPU's DR7; and the hypervisor's own DR7 says
//! I/O, a type of which the translator keeps none (`vt/debug.rs`).
//!
//! Three kinds of guest instructions end the translator, and every guest with it:
//! - MOV to CR8 while V_IRQ is set and its priority lets it in: `helper_write_crN` calls `cpu_interrupt` without the lock, which
//!   `tcg_handle_interrupt` asserts. So CR8 is intercepted while V_IRQ is set, and written while it is not (`vt/svm/state/step.rs`).
//! - A stack switch by the task-state segment while the task register is null: `get_ss_esp_from_tss` and
//!   `get_rsp_from_tss` call `cpu_abort`. `helper_ltr` accepts the null selector, which a processor refuses. So LTR is intercepted, run
//!   as a single step, and refused afterwards if it has loaded nothing.
//! - A stack switch in 32-bit code while the task register is busy, as it is after a reset: the translator keeps none busy. So
//!   a vCPU begins with a task register that is not busy.

use super::cpuid::is_virtual;
use super::time::now;
use crate::base::time::Frequency;
use core::arch::x86_64::__cpuid;

/// How the translator runs the processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Translator {
    /// `-icount shift=0`: one host thread runs all processors, and each instruction takes a nanosecond.
    Counting,
    /// One host thread for each processor.
    Threaded,
}

/// With `-icount shift=0` an instruction takes a nanosecond.
const COUNTING_KHZ: u64 = 1_000_000;
/// Two readings of the counter in a row differ by at most this number of ticks only if the translator counts instructions; the
/// translation itself takes longer in real time.
const NEAR_TICKS: u64 = 8;

impl Translator {
    /// Finds whether this machine is the translator, and which kind; its time-stamp counter runs at `tsc`. The translator shows itself in
    /// CPUID: the hypervisor bit, and `TCGTCGTCGTCG` at leaf 4000_0000.
    pub fn find(tsc: Frequency) -> Option<Self> {
        let signature = __cpuid(0x4000_0000);
        let is_tcg = is_virtual()
            && [signature.ebx, signature.ecx, signature.edx].map(u32::to_le_bytes)
                == [*b"TCGT", *b"CGTC", *b"GTCG"];
        is_tcg.then_some(if tsc.khz() == COUNTING_KHZ && counts() { Self::Counting } else { Self::Threaded })
    }
}

/// Whether two readings of the counter in a row can differ by at most [`NEAR_TICKS`]; readings of the host's counter never do.
fn counts() -> bool {
    (0..8).any(|_| {
        let before = now();
        now().since(before).0 <= NEAR_TICKS
    })
}
