//! Looking at the machine: CPUID, and reads, writes, instructions and calls that may fault.
//!
//! ```
//! use guest_kernel_shim::probe;
//!
//! // The processor's maker, as leaf 0 spells it.
//! let leaf = probe::cpuid(0, 0);
//! let maker: Vec<u8> = [leaf.ebx, leaf.edx, leaf.ecx].iter().flat_map(|word| word.to_le_bytes()).collect();
//! assert!(maker.is_ascii());
//! ```

pub use crate::arch::cpu::{Cpuid, cpuid};
pub use crate::arch::probe::{
    ControlRegister, Fault, Privileged, Registers, Width, call, execute, load, rdmsr, read_control,
    read_port, store, write_control, write_port, wrmsr,
};
pub use crate::arch::trap::triple_fault;
