//! Layer 2: what an exit means.
//!
//! Read [`run`] first: it is the whole life of a processor. An exit is handled in [`exit`], a call is decoded and done in
//! [`hypercall`], what a vCPU must know before it enters guest mode is settled in [`entry`].

pub mod apic;
pub mod berth;
pub mod bundle;
pub mod channel;
pub mod control;
pub mod core;
pub mod course;
pub mod cpuid;
pub mod device;
pub mod entry;
pub mod exit;
pub mod guest;
pub mod hypercall;
pub mod irq;
pub mod kvm;
pub mod load;
pub mod make;
pub mod memory;
pub mod mmio;
pub mod msr;
pub mod next;
pub mod registers;
pub mod run;
pub mod system;
pub mod vcpu;
pub mod virtio;
pub mod vt;
pub mod walk;
