//! How a guest finds the hypervisor: CPUID leaves from 0x4000_0000 (0x4000_0100 holds KVM's where both are given).
//!
//! ```
//! use pv_abi::cpuid::{Features, SIGNATURE};
//!
//! // What leaf `BASE` answers in EBX, ECX and EDX on Comity.
//! let signature: Vec<u8> = SIGNATURE.iter().flat_map(|register| register.to_le_bytes()).collect();
//! assert_eq!(signature, b"ComityComity");
//!
//! // EBX of `VERSION_LEAF`: bits that this version does not know are dropped.
//! let features = Features::from_bits_truncate(1 << 31 | 0b1001);
//! assert_eq!(features, Features::DEMAND | Features::ARM_BY_STORE);
//! ```

use bitflags::bitflags;

/// First leaf. EAX: last leaf; EBX, ECX, EDX: [`SIGNATURE`].
pub const BASE: u32 = 0x4000_0000;
/// EAX: [`crate::VERSION`] packed; EBX: [`Features`]; ECX: vCPUs of this guest; EDX: index of this vCPU.
pub const VERSION_LEAF: u32 = BASE + 1;
/// EAX: TSC frequency in kHz; EBX: APIC timer frequency in kHz; ECX: [`CallInstruction`]; EDX: zero.
pub const TIME_LEAF: u32 = BASE + 2;
/// EAX, EBX: low and high half of the gpa where the window for shared pages begins; ECX: its pages; EDX: zero.
pub const WINDOW_LEAF: u32 = BASE + 3;
/// Last leaf.
pub const LAST: u32 = WINDOW_LEAF;

/// "ComityComity" as EBX, ECX, EDX hold it.
pub const SIGNATURE: [u32; 3] =
    [u32::from_le_bytes(*b"Comi"), u32::from_le_bytes(*b"tyCo"), u32::from_le_bytes(*b"mity")];

/// Which instruction makes a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct CallInstruction(pub u32);

impl CallInstruction {
    /// AMD: `0F 01 D9`.
    pub const VMMCALL: Self = Self(0);
    /// Intel: `0F 01 C1`.
    pub const VMCALL: Self = Self(1);
}

bitflags! {
    /// What this hypervisor offers to this guest. A guest ignores bits it does not know.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u32 {
        /// Demand rows are read.
        const DEMAND = 1 << 0;
        /// Status rows are written.
        const STATUS = 1 << 1;
        /// Event lines and BLOCK.
        const EVENTS = 1 << 2;
        /// next_wake is honoured: the TSC is usable (DESIGN §4, Time).
        const ARM_BY_STORE = 1 << 3;
        /// A critical section may be granted an extension.
        const CRITICAL = 1 << 4;
        /// YIELD_PLEASE is shown to this guest.
        const YIELD_PLEASE = 1 << 5;
        /// YIELD_TO donates.
        const YIELD_TO = 1 << 6;
        /// The console ring.
        const CONSOLE_RING = 1 << 7;
        /// VCPU_START, VCPU_STOP and VCPU_STATE.
        const VCPU_CONTROL = 1 << 8;
        /// Channels to other guests.
        const CHANNELS = 1 << 9;
        /// Reserved for the board.
        const BOARD = 1 << 10;
        /// MEMORY: blocks of memory given back and taken.
        const MEMORY = 1 << 11;
        /// Reserved for SHARE.
        const SHARE = 1 << 12;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_signature_spells_comity_twice() {
        let bytes: [[u8; 4]; 3] = super::SIGNATURE.map(u32::to_le_bytes);
        assert_eq!(bytes.as_flattened(), b"ComityComity");
    }
}
