//! DR0 … DR3, which VMRUN does not switch: a vCPU that touches them has them until it is switched out.
#![expect(unsafe_code, reason = "MOV to and from debug registers")]

use core::arch::asm;

/// L0 … G3 of DR7: a breakpoint is on.
pub const DR7_ENABLES: u64 = 0xff;
/// GD of DR7: the next MOV to or from a debug register is a #DB, whose delivery clears it.
pub const DR7_GENERAL_DETECT: u64 = 1 << 13;

/// DR6 with no cause in it; the bits that are always set (APM vol 2 §13.1.1.3).
pub const DR6_CLEAR: u64 = 0xffff_0ff0;
/// B0 … B3 of DR6: which breakpoints a #DB is for.
pub const DR6_BREAKPOINTS: u64 = 0b1111;
/// BD of DR6: it is for a MOV to or from a debug register.
pub const DR6_GENERAL_DETECT: u64 = 1 << 13;
/// BS of DR6: it is for a single step.
pub const DR6_STEP: u64 = 1 << 14;

/// Puts new breakpoint addresses into the processor and returns the old ones. The host's DR7 is clear, so none acts here.
pub fn swap(new: [u64; 4]) -> [u64; 4] {
    let mut old = [0; 4];
    // SAFETY: CPL 0; #VMEXIT set the host's DR7 to 0x400 (APM vol 2 §15.6), so no breakpoint can fire; addresses are data.
    unsafe {
        asm!("mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3",
            out(reg) old[0], out(reg) old[1], out(reg) old[2], out(reg) old[3], options(nomem, nostack, preserves_flags));
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
            in(reg) new[0], in(reg) new[1], in(reg) new[2], in(reg) new[3], options(nomem, nostack, preserves_flags));
    }
    old
}
