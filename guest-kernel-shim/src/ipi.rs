//! Interrupts between the processors of one kernel: events in a cooperative guest, IPIs of the local APIC in the other
//! modes.
//!
//! ```
//! use guest_kernel_shim::ipi::{self, Line};
//!
//! const FLUSH: Option<Line> = Line::new(3);
//! assert_eq!(Line::new(16), None); // there are 16 lines
//!
//! if let Some(line) = FLUSH {
//!     ipi::send(1, line); // this kernel has one processor: nothing happens
//! }
//! ```

use crate::arch::{cpu, lapic, percpu};
use crate::interrupt::{self, Handler};
use crate::{event, platform};

/// A purpose for which one processor interrupts another: 0 … 15.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line(u8);

impl Line {
    /// Makes one of the 16 lines.
    pub const fn new(number: u8) -> Option<Self> {
        if number < 16 { Some(Self(number)) } else { None }
    }
}

/// Registers the handler of this line on every processor.
pub fn handle(line: Line, handler: Handler) {
    if platform::is_cooperative() {
        event::handle(line.0, handler);
    } else {
        interrupt::handle(interrupt::IPI_FIRST + line.0, handler);
    }
}

/// Interrupts processor `to` on this line; ignores numbers of processors that do not exist.
#[inline]
pub fn send(to: usize, line: Line) {
    if platform::is_cooperative() {
        event::send(to, line.0);
    } else if let (true, Ok(apic)) = (to < percpu::count(), u32::try_from(to)) {
        lapic::command(apic, u32::from(interrupt::IPI_FIRST + line.0));
    }
}

/// Executes PAUSE: one step of a spin loop.
#[inline]
pub fn relax() {
    cpu::pause();
}
