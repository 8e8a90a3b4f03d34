//! Blocks of 2 MiB that the kernel gives back to the hypervisor and takes again.

pub use crate::arch::blocks::{Absent, Blocks};

use crate::call::{self, Refused};

impl Absent {
    /// Takes all blocks; gives the CPU away while the machine has no free block.
    pub fn take_all(self) -> Result<Blocks, Refused> {
        self.take_each(call::yield_if_wanted)
    }
}
