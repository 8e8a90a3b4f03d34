//! Layer 1: what is decided, without knowing how the machine does it.

pub mod config;
pub mod demand;
pub mod guest;
pub mod mm;
pub mod publish;
pub mod sched;
pub mod timers;
pub mod trace;
