//! General registers of a guest, as a world switch finds and leaves them; RSP, RIP and RFLAGS are the vendor's.

use crate::guest::seam::Reg;

/// By [`Reg`]. RAX is not used where the vendor keeps it.
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub struct Registers([u64; 15]);

impl Registers {
    /// Where the world switches find a register, in bytes from the beginning.
    pub const fn offset(reg: Reg) -> usize {
        reg as usize * size_of::<u64>()
    }

    /// One that the core touches.
    #[inline(always)]
    pub const fn get(&self, reg: Reg) -> u64 {
        self.0[reg as usize]
    }

    /// The same, to be written.
    #[inline(always)]
    pub const fn get_mut(&mut self, reg: Reg) -> &mut u64 {
        &mut self.0[reg as usize]
    }
}
