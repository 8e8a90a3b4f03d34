//! Layer 3: the machine itself. The only layer, with `boot`, that may hold `unsafe`, invited file by file.

pub mod arch;
pub mod lines;
pub mod memory;
pub mod platform;
pub mod vt;
