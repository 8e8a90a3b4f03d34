//! A driver for tests: it initializes a device, makes buffers available, and looks at what came back.

mod ram;
mod rings;

pub use ram::{RAM_BYTES, Ram};
pub use rings::{Rings, SIZE};

/// The device writes to the buffer.
pub const WRITE: u16 = 2;
/// Another descriptor follows.
pub const NEXT: u16 = 1;
/// The descriptor is of a table.
pub const INDIRECT: u16 = 4;
