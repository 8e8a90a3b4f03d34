//! The control state in which a vCPU starts.

/// CR0.PG: paging is enabled.
pub const CR0_PG: u64 = 1 << 31;
/// CR4.PAE: page-table entries have 8 bytes.
pub const CR4_PAE: u64 = 1 << 5;
/// EFER.LMA: long mode is active.
pub const EFER_LMA: u64 = 1 << 10;
/// EFER.LME: long mode becomes active when paging is enabled.
pub const EFER_LME: u64 = 1 << 8;

/// Control state of a vCPU, copied to a vCPU that it starts (VCPU_START).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Control {
    /// CR0, CR3, CR4.
    pub cr: [u64; 3],
    /// EFER.
    pub efer: u64,
    /// PAT.
    pub pat: u64,
    /// GDTR and IDTR: base, limit.
    pub tables: [(u64, u32); 2],
    /// CS and SS: selector, packed attributes.
    pub segments: [(u16, u16); 2],
    /// The page-directory-pointer-table entries that PAE paging without long mode has loaded, on a processor that keeps them.
    pub pdptes: [u64; 4],
}

impl Control {
    /// L of a code segment's packed attributes: 64-bit code.
    const LONG: u16 = 1 << 9;
    /// D: 32-bit code.
    const BIG: u16 = 1 << 10;

    /// Returns the width of the code: 16, 32 or 64 bits.
    pub const fn code_bits(&self) -> u32 {
        let [(_, attributes), _] = self.segments;
        if self.efer & EFER_LMA != 0 && attributes & Self::LONG != 0 {
            64
        } else if attributes & Self::BIG != 0 {
            32
        } else {
            16
        }
    }

    /// Whether paging with these values of CR0, CR4 and EFER is PAE paging without long mode (SDM vol 3A §4.1.1).
    pub const fn is_pae(cr0: u64, cr4: u64, efer: u64) -> bool {
        cr0 & CR0_PG != 0 && cr4 & CR4_PAE != 0 && efer & EFER_LME == 0
    }
}

/// Where and how a vCPU starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// 32-bit protected mode with flat segments and paging off: PVH (Xen's public/arch-x86/hvm/start_info.h).
    Protected {
        /// EIP.
        entry: u32,
        /// EBX.
        ebx: u32,
    },
    /// Real mode at `vector`:0000: what a start-up IPI does (SDM vol 3 §9.4).
    Real {
        /// Page number below 1 MiB.
        vector: u8,
    },
    /// Long mode as a copy of another vCPU's control state.
    Copy {
        /// The control state to copy.
        control: Control,
        /// RIP.
        entry: u64,
        /// RSP.
        stack: u64,
        /// RDI and RSI.
        arguments: [u64; 2],
    },
}
