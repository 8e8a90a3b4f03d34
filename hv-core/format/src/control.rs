//! The control state in which a vCPU starts.

/// Paging is on.
pub const CR0_PG: u64 = 1 << 31;
/// Entries of page tables have 8 bytes.
pub const CR4_PAE: u64 = 1 << 5;
/// Long mode is on.
pub const EFER_LMA: u64 = 1 << 10;
/// Long mode will be on, with paging.
pub const EFER_LME: u64 = 1 << 8;

/// Control state of a vCPU that another one starts with (VCPU_START).
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
    /// What PAE paging without long mode has loaded of its page-directory-pointer table, where the processor keeps that.
    pub pdptes: [u64; 4],
}

impl Control {
    /// L of a code segment's packed attributes: 64-bit code.
    const LONG: u16 = 1 << 9;
    /// D: 32-bit code.
    const BIG: u16 = 1 << 10;

    /// How wide the code is: 16, 32 or 64 bits.
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
        /// What to copy.
        control: Control,
        /// RIP.
        entry: u64,
        /// RSP.
        stack: u64,
        /// RDI and RSI.
        arguments: [u64; 2],
    },
}
