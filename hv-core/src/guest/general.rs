//! A vCPU's general registers, as a world switch loads and stores them. The vendor's part keeps RSP, RIP and RFLAGS.

use crate::guest::seam::Reg;

/// The general registers, indexed by [`Reg`]. RAX is not used where the vendor's part keeps it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub struct Registers([u64; 15]);

impl Registers {
    /// Offset of a register in bytes, for the world switches.
    pub const fn offset(reg: Reg) -> usize {
        reg as usize * size_of::<u64>()
    }

    /// Reads a register.
    #[inline(always)]
    pub const fn get(&self, reg: Reg) -> u64 {
        self.0[reg as usize]
    }

    /// The register, for writing.
    #[inline(always)]
    pub const fn get_mut(&mut self, reg: Reg) -> &mut u64 {
        &mut self.0[reg as usize]
    }
}
