//! Where the linker put the image, and the first processor's stack.
#![expect(unsafe_code, reason = "symbols of the linker script")]

use hv_core::base::addr::{HostPhys, PAGE_BYTES};

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
    static boot_guard: u8;
}

/// Below each stack, and nobody's. A frame of up to a page is not probed as it grows, so that one page could be stepped over.
pub const GUARD_BYTES: u64 = 2 * PAGE_BYTES;

/// What lies below the first processor's stack: nothing does.
pub fn stack_guard() -> HostPhys {
    HostPhys::new_truncate(&raw const boot_guard as u64)
}

/// Where the image lies: start and length.
pub fn image() -> (HostPhys, u64) {
    let (start, end) = (&raw const image_start as u64, &raw const image_end as u64);
    (HostPhys::new_truncate(start), end - start)
}
