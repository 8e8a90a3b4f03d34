//! Machine checks: the processor reports that it, its caches or its memory failed. Nothing is recovered: the last words have what the
//! banks say (Intel SDM vol 3B §15.3; AMD APM vol 2 §9.3).
#![expect(unsafe_code, reason = "MSRs of the banks, and INT")]

use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::fmt;
use x86_64::registers::model_specific::Msr;

/// Its vector.
pub const VECTOR: u8 = 18;

const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
/// A machine check is being handled (MCIP).
const IN_PROGRESS: u64 = 1 << 2;
/// MC0_STATUS; each bank has four registers: control, status, address, more.
const FIRST_STATUS: u32 = 0x401;
/// As many banks as MSRs have a place for one after another.
const MAX_BANKS: u32 = 32;
/// VAL and ADDRV of a status: the bank, its address mean something.
const VALID: u64 = 1 << 63;
const HAS_ADDRESS: u64 = 1 << 58;
/// MCE and MCA in CPUID 1 EDX.
const ANNOUNCED: u32 = 1 << 7 | 1 << 14;

/// The banks, as they are when this is shown: only those that hold something.
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
    // SAFETY: only asked for where CPUID announces the architecture and MCG_CAP the bank; reading changes nothing.
    unsafe { Msr::new(index).read() }
}

/// Forgets a machine check of before our time: with MCIP set the next one would shut the processor down.
pub(super) fn clear() {
    if is_announced() {
        // SAFETY: CPUID announces the architecture; no machine check of ours is being handled, since none comes back.
        unsafe { Msr::new(MCG_STATUS).write(0) };
    }
}

/// A machine check ended guest mode. The processor does not call the handler of one that is intercepted (AMD APM vol 2 §15.12.15,
/// Intel SDM vol 3C §27.1), so this does, and nothing comes back.
#[cold]
pub fn was_intercepted() -> ! {
    // SAFETY: the gate of this vector is installed, on a stack of its own, and does not come back.
    unsafe { asm!("int {}", "ud2", const VECTOR, options(noreturn)) }
}

/// Whether what looks like a guest's triple fault is a machine check: with CR4.MCE clear, as while a guest runs, an AMD processor
/// shuts down instead of raising the exception (AMD APM vol 2 §9.3.3), and that exits as SHUTDOWN.
#[cold]
pub fn is_in_progress() -> bool {
    is_announced() && read(MCG_STATUS) & IN_PROGRESS != 0
}
