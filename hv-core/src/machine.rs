//! The machine itself. With `boot`, this is the only module that may hold `unsafe`, invited file by file.

pub mod arch;
pub mod memory;
pub mod pc;
pub mod serial_log;
pub mod vt;
