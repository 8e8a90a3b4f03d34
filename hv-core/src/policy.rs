//! Layer 1: what is decided, without knowing how the machine does it.

pub mod config;
pub mod demand;
pub mod sched;
pub mod trace;
