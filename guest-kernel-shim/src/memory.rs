//! Blocks of 2 MiB that the kernel gives back to the hypervisor and takes again.
//!
//! ```
//! use guest_kernel_shim::Boot;
//! use guest_kernel_shim::memory::{Absent, Blocks};
//!
//! /// Lends 8 MiB from 16 MiB on to the others, as long as this kernel does without.
//! fn lend(boot: &Boot) -> Option<Absent> {
//!     let blocks = Blocks::claim(boot, 8, 4)?;
//!     blocks.give().ok()
//! }
//!
//! /// Takes the memory again; its words are zero.
//! fn take_again(absent: Absent) -> Option<Blocks> {
//!     absent.take_all().ok()
//! }
//! ```

pub use crate::arch::blocks::{Absent, Blocks};

use crate::call::{self, Refused};

impl Absent {
    /// Takes all blocks; gives the CPU away while the machine has no free block.
    pub fn take_all(self) -> Result<Blocks, Refused> {
        self.take_each(call::yield_if_wanted)
    }
}
