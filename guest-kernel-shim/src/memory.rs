//! Memory that the kernel does without: blocks of 2 MiB given back to the hypervisor, and taken again.

pub use crate::arch::blocks::{Absent, Blocks};

use crate::call::{self, Refused};

impl Absent {
    /// Takes all of them, waiting where the machine has none to give at once.
    pub fn take_all(self) -> Result<Blocks, Refused> {
        self.take_each(call::yield_if_wanted)
    }
}
