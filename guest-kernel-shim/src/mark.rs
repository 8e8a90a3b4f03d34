//! Marks: a guest says "here" in the telemetry, where the counters of everybody stand beside it.

use crate::arch::port::SafePort;
use crate::call;
use crate::platform::{Mode, mode};

/// Notes `value` under `id`. Nothing happens on a bare machine, or in a full guest without `mark_port`.
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
