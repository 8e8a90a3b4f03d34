//! The registers as a page of memory: the old mode, xAPIC. SDM vol 3A §11.4.1 and table 11-1.
//!
//! Differences from x2APIC: ids are 8 bits wide and lie in the upper byte, ICR has two halves, software writes LDR and DFR, and
//! reserved bits are ignored instead of faulting. Logical destinations use the flat model; the cluster model, which no kernel of
//! this century chooses by itself, is treated as flat.

use super::msr::SVR_BITS;
use super::register::{self, Lvt};
use super::timer::DIVIDE_BITS;
use super::{ApicEffect, Lapic};
use crate::base::addr::low;
use crate::base::time::Tsc;
use core::sync::atomic::Ordering::Relaxed;

/// Bits of the page's address in IA32_APIC_BASE.
const ADDRESS: u64 = 0xf_ffff_ffff_f000;
/// Bit position of the 8-bit ids in their registers.
const ID_SHIFT: u32 = 24;
/// Bits of ICR's lower half that are not reserved (figure 11-12).
const ICR_LOW: u64 = 0x000c_cfff;

impl Lapic {
    /// Returns the address of the register page, in the old mode.
    #[inline]
    pub const fn page(&self) -> Option<u64> {
        if self.is_enabled() && !self.is_x2apic() { Some(self.base & ADDRESS) } else { None }
    }

    /// Reads the register at an offset of the page; 0 if the page has none there.
    pub fn read_page(&self, offset: u16, now: Tsc) -> u32 {
        match index(offset) {
            register::ID => self.setup.id << ID_SHIFT,
            register::LDR => u32::from(self.setup.flat_id.load(Relaxed)) << ID_SHIFT,
            register::DFR => u32::MAX,
            register::ICR => low(self.icr),
            register::ICR_HIGH => low(self.icr >> 32) << ID_SHIFT,
            index => self.register(index, now).unwrap_or(0),
        }
    }

    /// Writes the register at an offset of the page; has no effect if the page has none there, or if it is read-only.
    pub fn write_page(&mut self, offset: u16, value: u32, now: Tsc) -> ApicEffect {
        let wide = u64::from(value);
        let index = index(offset);
        let wide = match index {
            register::EOI => return ApicEffect::Eoi(self.end_of_interrupt()),
            register::LDR => {
                self.set_flat_id(value.to_le_bytes()[3]);
                return ApicEffect::None;
            }
            register::ICR_HIGH => {
                self.icr = self.icr & 0xffff_ffff | u64::from(value >> ID_SHIFT) << 32;
                return ApicEffect::None;
            }
            register::ICR => {
                let icr = self.icr & 0xff_0000_0000 | wide & ICR_LOW;
                let effect = self.write_icr(icr).unwrap_or(ApicEffect::None);
                return if let ApicEffect::Ipi(ipi) = effect {
                    ApicEffect::Ipi(ipi.of_old_mode())
                } else {
                    effect
                };
            }
            register::TPR => wide & 0xff,
            register::SVR => wide & SVR_BITS,
            register::ESR => 0,
            register::DIVIDE => wide & DIVIDE_BITS,
            register::SELF_IPI => return ApicEffect::None,
            _ => Lvt::of_msr(index).map_or(wide, |entry| wide & u64::from(entry.defined())),
        };
        self.write_register(index, wide, now).unwrap_or(ApicEffect::None)
    }
}

/// Returns the x2APIC register of the same meaning.
const fn index(offset: u16) -> u32 {
    register::X2APIC_FIRST + (offset >> 4) as u32
}
