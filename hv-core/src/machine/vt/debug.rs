//! DR0 … DR3, which VMRUN does not switch: a vCPU that touches them has them until it is switched out.
#![expect(unsafe_code, reason = "MOV to and from debug registers")]

use core::arch::asm;

/// The hypervisor's DR7 in QEMU's translator: no breakpoint is on, and each would be one for I/O.
const DR7_IDLE: u64 = 0x2222_0400;
/// Lengths and types in DR7.
const DR7_TYPES: u64 = 0xffff_0000;

/// Has QEMU's translator forget the breakpoints that a vCPU with this DR7 has left in it (`translator`).
pub fn forget(dr7: u64) {
    // SAFETY: CPL 0; no breakpoint is on.
    unsafe { asm!("mov dr7, {}", in(reg) dr7 & DR7_TYPES, options(nomem, nostack, preserves_flags)) };
    idle();
}

/// Gives a processor of QEMU's translator the DR7 that [`forget`] needs.
pub fn idle() {
    // SAFETY: CPL 0; no breakpoint is on.
    unsafe { asm!("mov dr7, {}", in(reg) DR7_IDLE, options(nomem, nostack, preserves_flags)) };
}

/// Puts new breakpoint addresses into the processor and returns the old ones. The host's DR7 turns none on, so none acts here.
pub fn swap(new: [u64; 4]) -> [u64; 4] {
    let mut old = [0; 4];
    // SAFETY: CPL 0; #VMEXIT set the host's DR7 to 0x400 (APM vol 2 §15.6), or to what is the same ([`idle`]), so no breakpoint can fire; addresses are data.
    unsafe {
        asm!("mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3",
            out(reg) old[0], out(reg) old[1], out(reg) old[2], out(reg) old[3], options(nomem, nostack, preserves_flags));
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
            in(reg) new[0], in(reg) new[1], in(reg) new[2], in(reg) new[3], options(nomem, nostack, preserves_flags));
    }
    old
}
