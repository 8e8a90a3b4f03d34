//! The handling of exits from guest mode.
//!
//! [`exit`] handles one exit, [`hypercall`] decodes and executes a hypercall, and [`before_entry`] does what is pending for a
//! vCPU before it enters guest mode.

pub mod apic;
pub mod ballooning;
pub mod before_entry;
pub mod begin;
pub mod channel;
pub mod control;
pub mod cpu;
#[expect(clippy::module_inception, reason = "the room is named after its first file")]
pub mod exit;
pub mod halt;
pub mod hypercall;
pub mod inject;
pub mod input;
pub mod interrupts;
pub mod kvm;
pub mod marks;
pub mod mmio;
pub mod msr;
pub mod port;
pub mod timers;
pub mod virtio;
pub mod walk;
