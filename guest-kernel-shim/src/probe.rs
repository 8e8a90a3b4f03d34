//! Looking at the machine: CPUID, and reads and writes that may fault.

pub use crate::arch::cpu::{Cpuid, cpuid};
