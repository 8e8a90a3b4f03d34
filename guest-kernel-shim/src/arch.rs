//! The ground floor: instructions, registers, entry code and shared memory, with all the unsafe code of this crate. It
//! names no other module of the crate; `cargo xtask lint` checks that. The functions it offers are safe unless their
//! arguments can break memory safety.

pub(crate) mod blocks;
pub(crate) mod boot;
pub(crate) mod call;
pub(crate) mod cpu;
pub(crate) mod descriptor;
pub(crate) mod entry;
mod force;
pub(crate) mod guarded;
pub(crate) mod lapic;
pub(crate) mod line;
pub(crate) mod percpu;
pub mod platform;
pub(crate) mod port;
pub(crate) mod probe;
pub(crate) mod shared;
pub(crate) mod start_info;
pub(crate) mod tables;
pub(crate) mod thread;
pub(crate) mod trampoline;
pub(crate) mod trap;
pub(crate) mod vectors;

pub(crate) use force::force_unlock;
