//! Registers that no entry switches: CR2, DR6, and the MSRs of SYSCALL. The hypervisor does not use them.
#![expect(unsafe_code, reason = "MOV to CR2 and DR6, and MSRs")]

use super::state::Extra;
use crate::guest::registers::{DR6_BREAKPOINTS, DR6_GENERAL_DETECT, DR6_STEP};
use core::arch::asm;
use x86_64::registers::model_specific::Msr;

/// STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE.
const SYSTEM_CALL: [u32; 5] = [0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, 0xc000_0102];

impl Extra {
    /// Gives the processor these registers.
    pub(super) fn load(&self) {
        // SAFETY: CR2 and DR6 are data; the values of the MSRs were read from them, or are zero, so they are accepted.
        unsafe {
            asm!("mov cr2, {}", "mov dr6, {}", in(reg) self.cr2, in(reg) self.dr6, options(nomem, nostack, preserves_flags));
            for (index, value) in SYSTEM_CALL.into_iter().zip(self.system_call) {
                Msr::new(index).write(value);
            }
        }
    }

    /// Notes in the processor's DR6 what a debug exception is for, as its delivery would have (SDM vol 3B §17.2.3): `causes` is the
    /// exit's qualification (§27.2.1), B0 … B3 as they are now, BD and BS added.
    pub(super) fn note_debug(&self, causes: u64) {
        // SAFETY: the vCPU is switched in, so DR6 is its own; the bits are those that a guest may set itself.
        unsafe {
            let mut dr6: u64;
            asm!("mov {}, dr6", out(reg) dr6, options(nomem, nostack, preserves_flags));
            dr6 = dr6 & !DR6_BREAKPOINTS | causes & (DR6_BREAKPOINTS | DR6_GENERAL_DETECT | DR6_STEP);
            asm!("mov dr6, {}", in(reg) dr6, options(nomem, nostack, preserves_flags));
        }
    }

    /// Takes CR2, for whoever looks at the vCPU while it has the processor.
    pub(super) fn note_cr2(&mut self) {
        // SAFETY: reading it changes nothing.
        unsafe { asm!("mov {}, cr2", out(reg) self.cr2, options(nomem, nostack, preserves_flags)) };
    }

    /// Takes them.
    pub(super) fn save(&mut self) {
        // SAFETY: reading them changes nothing.
        unsafe {
            asm!("mov {}, cr2", "mov {}, dr6", out(reg) self.cr2, out(reg) self.dr6, options(nomem, nostack, preserves_flags));
            for (index, value) in SYSTEM_CALL.into_iter().zip(&mut self.system_call) {
                *value = Msr::new(index).read();
            }
        }
    }
}
