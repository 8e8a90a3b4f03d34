//! Marks: values that a guest writes into the telemetry, next to the counters of all guests.
//!
//! ```
//! use guest_kernel_shim::mark::mark;
//!
//! const PHASE_BEGINS: u32 = 1;
//!
//! mark(PHASE_BEGINS, 2); // nothing happens here: no hypervisor listens
//! ```

use crate::arch::port::SafePort;
use crate::call;
use crate::platform::{Mode, mode};

/// Records `value` under `id`. Does nothing on a bare machine, or in a full guest without `mark_port`.
#[inline]
pub fn mark(id: u32, value: u32) {
    match mode() {
        Mode::Cooperative => {
            call::mark(id, value);
        }
        Mode::Full => {
            SafePort::MARK_VALUE.write_u32(value);
            SafePort::MARK_ID.write_u32(id);
        }
        Mode::Bare => {}
    }
}
