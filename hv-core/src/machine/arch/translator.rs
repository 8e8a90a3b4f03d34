//! QEMU's translator (TCG 7.2), where it does otherwise than the manuals say and the hypervisor must know.
//!
//! Where each processor has a host thread of its own, `helper_vmrun` sets the virtual interrupt's bit of
//! `interrupt_request` without the lock. What another thread sets at that instant, the timer's bit or a kick's, is lost: the
//! APIC holds the vector in IRR, and nothing looks there until it is told of another one. So there
//! - interrupts are injected as events, and V_IRQ only watches for the guest's interrupt window, and
//! - the timer goes on in periods until the hypervisor has seen it.
//!
//! A kick that is lost waits for the next exit; the one that ends the window's watch at the latest.
//!
//! FXRSTOR, on any processor, clears a bit in the first processor's `hflags2` (`cpu_clear_ignne`), again without a lock. If
//! that one enters or leaves guest mode at that instant, it does so without what VMRUN or #VMEXIT sets there, such as nested
//! paging: a guest's page tables are then looked for in the hypervisor's memory. So with threads
//! - the FPU's state comes back without FXRSTOR where the guest left x87 as it is after reset. One that uses x87 or FXRSTOR
//!   itself, on another processor than the first, can still bring the first one down.
//!
//! V_IRQ is taken where V_INTR_PRIO is not below V_TPR (`ctl_has_irq`); the manual says above (APM vol 2 §15.21.2). A window for a
//! class that the task priority equals would be open at once, and again after each exit: it is watched by the class below.
//!
//! Where instructions are counted there is one thread and no race. But an injected interrupt stays in `exception_index` after
//! it was delivered: if the loop is left before the next exit, as it is whenever an icount budget ends, the guest
//! gets the vector again, whatever IF says. So there interrupts are injected as virtual ones.
//!
//! A breakpoint is the translator's from MOV to DR7 until the next one, which takes it out as the type that DR7 says then; but VMRUN and
//! #VMEXIT exchange DR7 alone. Taken out as another type, it ends the translator (`hw_breakpoint_remove`). So before a vCPU has debug
//! registers, those of another one are taken out by that one's DR7; and the hypervisor's own says I/O, of which type none is kept
//! (`vt/debug.rs`).
//!
//! Three instructions of a guest's end the translator, and every guest with it:
//! - MOV to CR8 while V_IRQ is set and its priority lets it in: `helper_write_crN` calls `cpu_interrupt` without the lock, which
//!   `tcg_handle_interrupt` asserts. So CR8 is intercepted while V_IRQ is set, and written while it is not (`vt/svm/state/step.rs`).
//! - Whatever switches stacks by the task-state segment while the task register is null: `get_ss_esp_from_tss` and
//!   `get_rsp_from_tss` call `cpu_abort`. `helper_ltr` takes the null selector, which a processor refuses. So LTR is intercepted, run as a
//!   single step, and refused afterwards where it has loaded nothing.
//! - The same in 32-bit code while the task register is busy, as it is after a reset: the translator keeps none busy. So
//!   a vCPU begins with one that is not.

use super::cpuid::is_virtual;
use super::time::now;
use crate::base::time::Frequency;
use core::arch::x86_64::__cpuid;

/// Which of its two ways to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Translator {
    /// `-icount shift=0`: one thread for all processors, a nanosecond an instruction.
    Counting,
    /// A thread for each processor.
    Threaded,
}

/// With `-icount shift=0` an instruction takes a nanosecond.
const COUNTING_KHZ: u64 = 1_000_000;
/// Two readings of the counter in a row are so near to one another only where instructions are counted: in ticks. The translator
/// itself takes longer.
const NEAR_TICKS: u64 = 8;

impl Translator {
    /// The one that this machine is, if any; its time-stamp counter runs at `tsc`. CPUID: hypervisor bit, and `TCGTCGTCGTCG`
    /// at leaf 4000_0000.
    pub fn find(tsc: Frequency) -> Option<Self> {
        let signature = __cpuid(0x4000_0000);
        let is_tcg = is_virtual()
            && [signature.ebx, signature.ecx, signature.edx].map(u32::to_le_bytes)
                == [*b"TCGT", *b"CGTC", *b"GTCG"];
        is_tcg.then_some(if tsc.khz() == COUNTING_KHZ && counts() { Self::Counting } else { Self::Threaded })
    }
}

/// Whether two readings of the counter in a row can be near to one another: of the host's counter none are.
fn counts() -> bool {
    (0..8).any(|_| {
        let before = now();
        now().since(before).0 <= NEAR_TICKS
    })
}
