//! Machine checks: the processor reports that it, its caches or its memory failed. The hypervisor recovers nothing: the panic report
//! shows the content of the banks (Intel SDM vol 3B §15.3; AMD APM vol 2 §9.3).
#![expect(unsafe_code, reason = "MSRs of the banks, and INT")]

use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::fmt;
use x86_64::registers::model_specific::Msr;

/// Vector of the machine-check exception.
pub const VECTOR: u8 = 18;

const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
/// MCIP: a machine check is in progress.
const IN_PROGRESS: u64 = 1 << 2;
/// MC0_STATUS; each bank has four registers: control, status, address, miscellaneous.
const FIRST_STATUS: u32 = 0x401;
/// Number of banks whose MSRs are consecutive.
const MAX_BANKS: u32 = 32;
/// VAL and ADDRV of a status: the bank's status is valid; its address register is valid.
const VALID: u64 = 1 << 63;
const HAS_ADDRESS: u64 = 1 << 58;
/// MCE and MCA in CPUID 1 EDX.
const ANNOUNCED: u32 = 1 << 7 | 1 << 14;

/// The banks, read while this value is formatted; only banks with a valid status are shown.
pub struct Banks;

impl fmt::Display for Banks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !is_announced() {
            return f.write_str(" no banks");
        }
        write!(f, " mcg_status={:#x}", read(MCG_STATUS))?;
        for bank in 0..(u32::try_from(read(MCG_CAP) & 0xff).unwrap_or(0)).min(MAX_BANKS) {
            let status = read(FIRST_STATUS + 4 * bank);
            if status & VALID != 0 {
                write!(f, " mc{bank}_status={status:#x}")?;
            }
            if status & (VALID | HAS_ADDRESS) == VALID | HAS_ADDRESS {
                write!(f, " mc{bank}_addr={:#x}", read(FIRST_STATUS + 4 * bank + 1))?;
            }
        }
        Ok(())
    }
}

fn is_announced() -> bool {
    __cpuid(1).edx & ANNOUNCED == ANNOUNCED
}

fn read(index: u32) -> u64 {
    // SAFETY: callers read only if CPUID announces the architecture and MCG_CAP the bank; reading changes nothing.
    unsafe { Msr::new(index).read() }
}

/// Clears a machine check from before the hypervisor's start: with MCIP set the next one would shut the processor down.
pub(super) fn clear() {
    if is_announced() {
        // SAFETY: CPUID announces the architecture; the hypervisor is not handling a machine check, since its handler does not return.
        unsafe { Msr::new(MCG_STATUS).write(0) };
    }
}

/// Calls the machine-check handler after a machine check ended guest mode: the processor does not call it if the exception is
/// intercepted (AMD APM vol 2 §15.12.15, Intel SDM vol 3C §27.1). The handler does not return.
#[cold]
pub fn was_intercepted() -> ! {
    // SAFETY: the gate of this vector is installed, on a stack of its own, and its handler does not return.
    unsafe { asm!("int {}", "ud2", const VECTOR, options(noreturn)) }
}

/// Whether an apparent triple fault of a guest is a machine check: with CR4.MCE clear, as while a guest runs, an AMD processor
/// shuts down instead of raising the exception (AMD APM vol 2 §9.3.3), which exits as SHUTDOWN.
#[cold]
pub fn is_in_progress() -> bool {
    is_announced() && read(MCG_STATUS) & IN_PROGRESS != 0
}
