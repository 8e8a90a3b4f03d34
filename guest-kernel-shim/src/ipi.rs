//! Processors of one kernel calling one another: by events in a cooperative guest, by the local APIC otherwise.

use crate::arch::{cpu, lapic, percpu};
use crate::interrupt::{self, Handler};
use crate::{event, platform};

/// What a processor can be called for: 0 … 15.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line(u8);

impl Line {
    /// One of the 16 lines.
    pub const fn new(number: u8) -> Option<Self> {
        if number < 16 { Some(Self(number)) } else { None }
    }
}

/// Makes `handler` run on whichever processor is called on this line.
pub fn handle(line: Line, handler: Handler) {
    if platform::is_cooperative() {
        event::handle(line.0, handler);
    } else {
        interrupt::handle(interrupt::IPI_FIRST + line.0, handler);
    }
}

/// Calls processor `cpu` on this line; one that does not exist is ignored.
#[inline]
pub fn send(to: usize, line: Line) {
    if platform::is_cooperative() {
        event::send(to, line.0);
    } else if let (true, Ok(apic)) = (to < percpu::count(), u32::try_from(to)) {
        lapic::command(apic, u32::from(interrupt::IPI_FIRST + line.0));
    }
}

/// One step of a spin loop.
#[inline]
pub fn relax() {
    cpu::pause();
}
