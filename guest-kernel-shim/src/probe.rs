//! Looking at the machine: CPUID, and reads, writes, instructions and calls that may fault.

pub use crate::arch::cpu::{Cpuid, cpuid};
pub use crate::arch::probe::{
    ControlRegister, Fault, Privileged, Registers, Width, call, execute, load, rdmsr, read_control,
    read_port, store, write_control, write_port, wrmsr,
};
pub use crate::arch::trap::triple_fault;
