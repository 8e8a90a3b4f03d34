//! The registers as MSRs: what may be read, what may be written, and what follows. SDM vol 3A §11.12.1.

use super::ipi::{ICR_BUSY, ICR_RESERVED, IpiRequest};
use super::register::{self, BASE_BSP, BASE_ENABLE, BASE_X2APIC, IA32_APIC_BASE, IA32_TSC_DEADLINE, Lvt};
use super::timer::DIVIDE_BITS;
use super::{ApicEffect, ESR_SEND_ILLEGAL, Lapic, SVR_ENABLE, logical_id};
use crate::base::time::Tsc;
use crate::device::Gp;

pub(super) const SVR_BITS: u64 = 0x3FF;
/// Version 0x14 (integrated), highest LVT entry 5: no CMCI, no suppression of EOI broadcasts.
const VERSION: u32 = 0x14 | 5 << 16;

impl Lapic {
    /// Reads IA32_APIC_BASE, IA32_TSC_DEADLINE or an x2APIC register.
    ///
    /// # Errors
    ///
    /// [`Gp`] when there is no such register, it cannot be read, or the APIC is not in x2APIC mode (§11.12.1.2).
    pub fn read_msr(&self, index: u32, now: Tsc) -> Result<u64, Gp> {
        match index {
            IA32_APIC_BASE => return Ok(self.base),
            IA32_TSC_DEADLINE => return Ok(self.timer.deadline()),
            _ if !self.is_x2apic() => return Err(Gp),
            register::ICR => return Ok(self.icr),
            _ => {}
        }
        self.register(index, now).map(u64::from)
    }

    /// What both modes show in the same way.
    pub(super) fn register(&self, index: u32, now: Tsc) -> Result<u32, Gp> {
        Ok(match index {
            register::ID => self.setup.id,
            register::VERSION => VERSION,
            register::TPR => u32::from(self.task_priority),
            register::PPR => u32::from(self.processor_priority),
            register::LDR => logical_id(self.setup.id),
            register::SVR => self.spurious,
            register::ISR_0..=register::ISR_7 => self.in_service.register(index - register::ISR_0),
            register::TMR_0..=register::TMR_7 => self.level.register(index - register::TMR_0),
            register::IRR_0..=register::IRR_7 => self.requested.register(index - register::IRR_0),
            register::ESR => self.error_shown,
            register::INITIAL_COUNT => self.timer.initial,
            register::CURRENT_COUNT => self.timer.current(now),
            register::DIVIDE => self.timer.divide,
            _ => self.lvt[Lvt::of_msr(index).ok_or(Gp)? as usize],
        })
    }

    /// Writes IA32_APIC_BASE, IA32_TSC_DEADLINE or an x2APIC register.
    ///
    /// # Errors
    ///
    /// [`Gp`], and nothing changed, when there is no such register, it cannot be written, a reserved bit is set, or the
    /// APIC is not in x2APIC mode (§11.12.1.2).
    #[inline(always)] // both vendors' loops call it, on the way of every EOI
    pub fn write_msr(&mut self, index: u32, value: u64, now: Tsc) -> Result<ApicEffect, Gp> {
        if index == register::EOI && value == 0 && self.is_x2apic() {
            return Ok(ApicEffect::Eoi(self.end_of_interrupt()));
        }
        match index {
            IA32_TSC_DEADLINE => {
                self.timer.set_deadline(value);
                Ok(ApicEffect::TimerChanged)
            }
            IA32_APIC_BASE => self.write_base(value),
            _ if !self.is_x2apic() => Err(Gp),
            _ => self.write_register(index, value, now),
        }
    }

    /// What both modes take in the same way.
    #[inline(always)] // as above
    pub(super) fn write_register(&mut self, index: u32, value: u64, now: Tsc) -> Result<ApicEffect, Gp> {
        match index {
            register::INITIAL_COUNT => {
                self.timer.set_initial(u32::try_from(value).map_err(|_| Gp)?, now);
                Ok(ApicEffect::TimerChanged)
            }
            register::ICR => self.write_icr(value),
            register::SELF_IPI => Ok(self.send_to_self(u8::try_from(value).map_err(|_| Gp)?)),
            register::TPR => {
                self.set_task_priority(u8::try_from(value).map_err(|_| Gp)?);
                Ok(ApicEffect::None)
            }
            _ => self.write_rarely(index, value, now),
        }
    }

    /// The registers a guest sets up once.
    #[inline(never)]
    fn write_rarely(&mut self, index: u32, value: u64, now: Tsc) -> Result<ApicEffect, Gp> {
        let value_32 = u32::try_from(value).map_err(|_| Gp)?;
        match index {
            register::SVR if value & !SVR_BITS == 0 => {
                self.spurious = value_32;
                if value_32 & SVR_ENABLE == 0 {
                    // §11.4.7.2: mask bits are set and stay set; what is requested or in service stays.
                    self.lvt.iter_mut().for_each(|entry| *entry |= register::LVT_MASKED);
                }
                Ok(ApicEffect::None)
            }
            register::ESR if value == 0 => {
                self.error_shown = core::mem::take(&mut self.error_latched);
                Ok(ApicEffect::None)
            }
            register::DIVIDE if value & !DIVIDE_BITS == 0 => {
                self.timer.set_divide(value_32, now);
                Ok(ApicEffect::TimerChanged)
            }
            _ => self.write_lvt(Lvt::of_msr(index).ok_or(Gp)?, value_32),
        }
    }

    fn write_lvt(&mut self, entry: Lvt, value: u32) -> Result<ApicEffect, Gp> {
        let mode = register::timer_mode(value);
        if value & !entry.defined() != 0 || entry == Lvt::Timer && mode.is_none() {
            return Err(Gp);
        }
        let forced = if self.spurious & SVR_ENABLE == 0 { register::LVT_MASKED } else { 0 };
        self.lvt[entry as usize] = value & !register::LVT_READ_ONLY | forced;
        match mode {
            Some(mode) if entry == Lvt::Timer => {
                self.timer.set_mode(mode);
                Ok(ApicEffect::TimerChanged)
            }
            _ => Ok(ApicEffect::None),
        }
    }

    #[inline]
    pub(super) fn write_icr(&mut self, value: u64) -> Result<ApicEffect, Gp> {
        if value & ICR_RESERVED != 0 {
            return Err(Gp);
        }
        self.icr = value & !ICR_BUSY;
        Ok(match IpiRequest::decode(value) {
            IpiRequest::Send(ipi) => ApicEffect::Ipi(ipi),
            IpiRequest::ToSelf(vector) => self.send_to_self(vector),
            IpiRequest::IllegalVector => {
                self.report(ESR_SEND_ILLEGAL);
                ApicEffect::None
            }
            IpiRequest::Nothing => ApicEffect::None,
        })
    }

    /// §11.12.5: the old mode may be left for x2APIC or for off; x2APIC only for off; off only for the old mode.
    #[inline(never)]
    fn write_base(&mut self, value: u64) -> Result<ApicEffect, Gp> {
        const MODE: u64 = BASE_ENABLE | BASE_X2APIC;
        let outside = u64::MAX.checked_shl(u32::from(self.setup.physical_bits)).unwrap_or(0);
        if value & (register::BASE_RESERVED | outside) != 0 {
            return Err(Gp);
        }
        let (from, to) = (self.base & MODE, value & MODE);
        if from != to && !matches!((from, to), (BASE_ENABLE, MODE) | (0, BASE_ENABLE) | (_, 0)) {
            return Err(Gp);
        }
        self.base = value & !BASE_BSP | self.base & BASE_BSP;
        if from != to {
            self.set_flat_id(0);
            if to == 0 {
                self.init();
            }
        }
        Ok(ApicEffect::TimerChanged)
    }
}
