//! Bits of registers that vCPUs of either vendor have.

use crate::dispatch::registers::{CR0_PG, EFER_GUEST, EFER_LMA, EFER_LME};
use crate::dispatch::vt::Exception;
use crate::machine::arch::machine_check;

/// What is always intercepted of exceptions, by their vectors' bits: those that a guest could have delivered without end, and machine
/// checks, which are the machine's.
pub const EXCEPTIONS: u32 = Exception::ENDLESS | 1 << machine_check::VECTOR;

/// A #DB follows each instruction.
pub const RFLAGS_TF: u64 = 1 << 8;
/// Interrupts are on.
pub const RFLAGS_IF: u64 = 1 << 9;
/// No breakpoint is met at the next instruction, whose end clears it.
pub const RFLAGS_RF: u64 = 1 << 16;
/// Power-on PAT (AMD APM vol 2 §7.8.2, Intel SDM vol 3A §11.12.4).
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;

/// What EFER is after a guest with this CR0 has written it; `None` when it may not.
pub fn efer_written(value: u64, before: u64, cr0: u64) -> Option<u64> {
    let refused = value & !EFER_GUEST != 0 || cr0 & CR0_PG != 0 && (value ^ before) & EFER_LME != 0;
    // LMA follows LME and paging; software cannot set it (AMD APM vol 2 §2.2.1).
    (!refused).then_some(value & !EFER_LMA | before & EFER_LMA)
}

/// What EFER is after CR0 was written: LMA follows paging (AMD APM vol 2 §14.6.1).
pub const fn efer_paged(efer: u64, cr0: u64) -> u64 {
    if cr0 & CR0_PG != 0 && efer & EFER_LME != 0 { efer | EFER_LMA } else { efer & !EFER_LMA }
}
