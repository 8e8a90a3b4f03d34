//! The processor and the devices of a PC that the hypervisor itself needs.

pub mod apic;
pub mod bochs;
pub mod calibrate;
pub mod clean;
pub mod console;
pub mod cpuid;
pub mod descriptors;
pub mod exit;
pub mod interrupts;
pub mod ioapic;
pub mod machine_check;
pub mod paging;
pub mod percpu;
pub mod screen;
pub mod serial;
pub mod skew;
pub mod stop;
pub mod time;
pub mod translator;
