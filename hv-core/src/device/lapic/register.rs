//! Numbers and bits of the x2APIC registers. SDM vol 3A table 11-6, figures 11-8 and 11-26.

use super::Mode;

/// IA32_APIC_BASE.
pub const IA32_APIC_BASE: u32 = 0x1B;
/// IA32_TSC_DEADLINE.
pub const IA32_TSC_DEADLINE: u32 = 0x6E0;
/// First of the x2APIC registers.
pub const X2APIC_FIRST: u32 = 0x800;

pub(super) const BASE_ADDRESS: u64 = 0xFEE0_0000;
pub(super) const BASE_BSP: u64 = 1 << 8;
pub(super) const BASE_X2APIC: u64 = 1 << 10;
pub(super) const BASE_ENABLE: u64 = 1 << 11;
pub(super) const BASE_RESERVED: u64 = 0x2FF;

pub(super) const ID: u32 = 0x802;
pub(super) const VERSION: u32 = 0x803;
pub(super) const TPR: u32 = 0x808;
pub(super) const PPR: u32 = 0x80A;
pub(super) const EOI: u32 = 0x80B;
pub(super) const LDR: u32 = 0x80D;
/// The destination format: of the old mode only.
pub(super) const DFR: u32 = 0x80E;
pub(super) const SVR: u32 = 0x80F;
pub(super) const ISR_0: u32 = 0x810;
pub(super) const ISR_7: u32 = 0x817;
pub(super) const TMR_0: u32 = 0x818;
pub(super) const TMR_7: u32 = 0x81F;
pub(super) const IRR_0: u32 = 0x820;
pub(super) const IRR_7: u32 = 0x827;
pub(super) const ESR: u32 = 0x828;
pub(super) const ICR: u32 = 0x830;
/// Its upper half: of the old mode only.
pub(super) const ICR_HIGH: u32 = 0x831;
pub(super) const INITIAL_COUNT: u32 = 0x838;
pub(super) const CURRENT_COUNT: u32 = 0x839;
pub(super) const DIVIDE: u32 = 0x83E;
pub(super) const SELF_IPI: u32 = 0x83F;

pub(super) const LVT_COUNT: usize = 6;
pub(super) const LVT_MASKED: u32 = 1 << 16;
pub(super) const LVT_NMI: u32 = 4 << 8;
pub(super) const LVT_EXTINT: u32 = 7 << 8;
/// Mask and delivery mode.
pub(super) const LVT_ROUTE: u32 = LVT_MASKED | 7 << 8;
/// Delivery status and remote IRR: written as read, never set here.
pub(super) const LVT_READ_ONLY: u32 = 1 << 12 | 1 << 14;

/// The local vector table, in the order of its MSRs from 0x832 on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lvt {
    Timer,
    Thermal,
    Performance,
    Lint0,
    Lint1,
    Error,
}

impl Lvt {
    pub(super) const fn of_msr(index: u32) -> Option<Self> {
        Some(match index {
            0x832 => Self::Timer,
            0x833 => Self::Thermal,
            0x834 => Self::Performance,
            0x835 => Self::Lint0,
            0x836 => Self::Lint1,
            0x837 => Self::Error,
            _ => return None,
        })
    }

    /// Bits that are not reserved (figure 11-8).
    pub(super) const fn defined(self) -> u32 {
        match self {
            Self::Timer => 0x0007_10FF,
            Self::Thermal | Self::Performance => 0x0001_17FF,
            Self::Lint0 | Self::Lint1 => 0x0001_F7FF,
            Self::Error => 0x0001_10FF,
        }
    }
}

/// The timer mode of an LVT value, `None` for the reserved one.
pub(super) const fn timer_mode(lvt: u32) -> Option<Mode> {
    match lvt >> 17 & 3 {
        0 => Some(Mode::OneShot),
        1 => Some(Mode::Periodic),
        2 => Some(Mode::Deadline),
        _ => None,
    }
}
