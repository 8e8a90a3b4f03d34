//! Addresses of the image, and of the first processor's stack, as the linker placed them.
#![expect(unsafe_code, reason = "symbols of the linker script")]

use hv_core::base::addr::{HostPhys, PAGE_BYTES};

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
    static boot_guard: u8;
}

/// Size of the unmapped guard below each stack. The compiler does not probe a stack frame of up to a page, so a frame could step over a
/// guard of one page.
pub const GUARD_BYTES: u64 = 2 * PAGE_BYTES;

/// Returns the start of the guard below the first processor's stack.
pub fn stack_guard() -> HostPhys {
    HostPhys::new_truncate(&raw const boot_guard as u64)
}

/// Returns the image's start and its length in bytes.
pub fn image() -> (HostPhys, u64) {
    let (start, end) = (&raw const image_start as u64, &raw const image_end as u64);
    (HostPhys::new_truncate(start), end - start)
}
