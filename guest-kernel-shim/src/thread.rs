//! Cooperative kernel threads on the first processor, for tests that need two parties in one kernel.

pub use crate::arch::thread::{NoThread, give_way, spawn};
