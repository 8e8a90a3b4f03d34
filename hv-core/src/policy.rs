//! Layer 1: what is decided, without knowing how the machine does it.

pub mod acpi;
pub mod balance;
pub mod board;
pub mod calibrate;
pub mod config;
pub mod demand;
pub mod heap;
pub mod mail;
pub mod mm;
pub mod publish;
pub mod sched;
pub mod telemetry;
pub mod timers;
pub mod trace;
pub mod whereabouts;
