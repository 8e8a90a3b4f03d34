//! DR0 … DR3, which VMRUN does not switch: a vCPU that touches them has them until it is switched out.
#![expect(unsafe_code, reason = "MOV to and from debug registers")]

use core::arch::asm;

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
