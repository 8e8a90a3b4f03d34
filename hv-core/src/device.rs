//! Emulated devices: safe code that no guest value can panic.
//!
//! A device takes a guest's access and returns its effect as a value; it knows nothing of vCPUs, exits or
//! other guests. Moments are values of the guest's time-stamp counter, as RDTSC would return it at the exit.

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
