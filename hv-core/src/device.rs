//! Emulated devices: safe code that no guest value can panic.
//!
//! A device takes what a guest wrote and returns what follows from it as a value; it knows nothing of vCPUs, exits or
//! other guests. Moments are the guest's time-stamp counter: what RDTSC would give it at the exit.

pub mod acpi_pm;
pub mod backlog;
pub mod bus;
pub mod channel;
pub mod ioapic;
pub mod lapic;
pub mod pic;
pub mod pit;
pub mod rate;
pub mod rtc;
pub mod uart;
pub mod virtio;

/// The access faults: the guest gets a general-protection exception with error code 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gp;
