//! Kernel threads of the first processor that give way to one another: enough for two parties in one kernel.

pub use crate::arch::thread::{NoThread, give_way, spawn};
