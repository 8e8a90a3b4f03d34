//! Control registers that no processor runs with: an exception here, or the end by the hypervisor, and nobody else notices.
#![expect(unsafe_code, reason = "breaks this kernel on purpose")]

use core::arch::asm;
use guest_kernel_shim::{Boot, console, interrupt, println};

const NOT_WRITE_THROUGH: u64 = 1 << 29;
const PAGING: u64 = 1 << 31;
const PROTECTION: u64 = 1 << 0;
const PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
/// A page directory far above all memory of any guest.
const FAR: u64 = 0x7f_ffff_f000;

/// `what=` says which: `cache`, `paging`, `protection`, `extension`, `reserved`, `directory`.
pub fn spoil(boot: &Boot) {
    let what = boot.value("what").unwrap_or("");
    println!("state: {what}");
    console::flush();
    interrupt::disable();
    let (cr0, cr4): (u64, u64);
    // SAFETY: reads control registers; what is then written takes this kernel down, which is what it is for.
    unsafe {
        asm!("mov {}, cr0", "mov {}, cr4", out(reg) cr0, out(reg) cr4, options(nomem, nostack));
        match what {
            "cache" => asm!("mov cr0, {}", in(reg) cr0 | NOT_WRITE_THROUGH),
            "paging" => asm!("mov cr0, {}", in(reg) cr0 & !PAGING),
            "protection" => asm!("mov cr0, {}", in(reg) cr0 & !PROTECTION),
            "extension" => asm!("mov cr4, {}", in(reg) cr4 & !PHYSICAL_ADDRESS_EXTENSION),
            "reserved" => asm!("mov cr4, {}", in(reg) u64::MAX),
            "directory" => asm!("mov cr3, {}", in(reg) FAR),
            _ => {}
        }
    }
}
