//! The local APIC, emulated on any processor and programmed through the x2APIC registers.
//!
//! Section numbers: Intel SDM vol 3A, 325462-084, chapter 11. Owns IA32_APIC_BASE, MSRs 0x800 … 0x83F,
//! IA32_TSC_DEADLINE and the timer. The register page of the old mode is not here: it needs an instruction decoder.
//! Sending is the caller's: a write returns what is to be sent.

mod ipi;
mod register;
#[cfg(test)]
mod tests;
mod timer;
mod vectors;

use crate::base::time::{Frequency, Tsc};
use crate::dispatch::device::Gp;
use crate::dispatch::device::rate::Rate;

pub use ipi::{Delivery, Destination, Ipi, logical_id};
use ipi::{ICR_BUSY, ICR_RESERVED, Request};
use register::{BASE_BSP, BASE_ENABLE, BASE_X2APIC, LVT_COUNT, Lvt};
pub use register::{IA32_APIC_BASE, IA32_TSC_DEADLINE, X2APIC_FIRST, X2APIC_LAST};
use timer::{DIVIDE_BITS, Mode, Timer};
use vectors::Vectors;

/// Vectors below are the processor's exceptions and cannot be sent or taken.
const LOWEST_LEGAL_VECTOR: u8 = 16;
const SVR_ENABLE: u32 = 1 << 8;
const SVR_BITS: u64 = 0x3FF;
const SVR_AFTER_RESET: u32 = 0xFF;
const ESR_SEND_ILLEGAL: u32 = 1 << 5;
const ESR_RECEIVE_ILLEGAL: u32 = 1 << 6;
/// Version 0x14 (integrated), highest LVT entry 5: no CMCI, no suppression of EOI broadcasts.
const VERSION: u32 = 0x14 | 5 << 16;

/// What a processor is at power-on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The one that starts: firmware has set it up, with LINT0 as ExtINT (virtual wire).
    Bootstrap,
    /// One that waits for a start-up.
    Application,
}

/// What an APIC is made from.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The x2APIC id, as CPUID leaf 0xB gives it.
    pub id: u32,
    /// Whether it starts.
    pub role: Role,
    /// Width of guest-physical addresses, as CPUID leaf 0x8000_0008 gives it.
    pub physical_bits: u8,
    /// The clock of all moments given to this APIC.
    pub tsc: Frequency,
    /// The clock of the timer before division.
    pub bus: Frequency,
}

/// What follows from a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum ApicEffect {
    /// Nothing outside; a write to TPR or the base may have changed [`Lapic::highest_pending`].
    None,
    /// [`Lapic::next_expiry`] changed.
    TimerChanged,
    /// This vector is no longer in service, if one was; [`Lapic::highest_pending`] may have changed.
    Eoi(Option<u8>),
    /// To be sent.
    Ipi(Ipi),
    /// This vector was posted here by its own processor.
    SelfIpi(u8),
}

/// One local APIC.
#[derive(Clone, Debug)]
pub struct Lapic {
    requested: Vectors,
    in_service: Vectors,
    level: Vectors,
    task_priority: u8,
    /// max(TPR, class of the highest vector in service), kept up to date.
    processor_priority: u8,
    base: u64,
    timer: Timer,
    id: u32,
    spurious: u32,
    lvt: [u32; LVT_COUNT],
    error_shown: u32,
    error_latched: u32,
    icr: u64,
    physical_bits: u8,
}

impl Lapic {
    /// Returns an APIC as a PC's firmware leaves it: xAPIC mode, the bootstrap processor's enabled.
    pub const fn new(setup: &Setup) -> Self {
        let mut apic = Self {
            requested: Vectors::EMPTY,
            in_service: Vectors::EMPTY,
            level: Vectors::EMPTY,
            task_priority: 0,
            processor_priority: 0,
            base: register::BASE_ADDRESS | BASE_ENABLE,
            timer: Timer::new(Rate::of(setup.tsc, setup.bus)),
            id: setup.id,
            spurious: SVR_AFTER_RESET,
            lvt: [register::LVT_MASKED; LVT_COUNT],
            error_shown: 0,
            error_latched: 0,
            icr: 0,
            physical_bits: setup.physical_bits,
        };
        if let Role::Bootstrap = setup.role {
            apic.base |= BASE_BSP;
            apic.spurious |= SVR_ENABLE;
            apic.lvt[Lvt::Lint0 as usize] = register::LVT_EXTINT;
            apic.lvt[Lvt::Lint1 as usize] = register::LVT_NMI;
        }
        apic
    }

    /// The state after INIT: as after power-on, except for the id and IA32_APIC_BASE (§11.4.7.3).
    pub const fn init(&mut self) {
        self.requested = Vectors::EMPTY;
        self.in_service = Vectors::EMPTY;
        self.level = Vectors::EMPTY;
        self.task_priority = 0;
        self.processor_priority = 0;
        self.timer.reset();
        self.spurious = SVR_AFTER_RESET;
        self.lvt = [register::LVT_MASKED; LVT_COUNT];
        self.error_shown = 0;
        self.error_latched = 0;
        self.icr = 0;
    }

    /// The x2APIC id.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Whether the x2APIC registers answer.
    #[inline]
    pub const fn is_x2apic(&self) -> bool {
        self.base & (BASE_ENABLE | BASE_X2APIC) == BASE_ENABLE | BASE_X2APIC
    }

    /// Whether the APIC takes part at all: the global enable of IA32_APIC_BASE.
    #[inline]
    pub const fn is_enabled(&self) -> bool {
        self.base & BASE_ENABLE != 0
    }

    /// The task priority; its upper four bits are CR8.
    #[inline]
    pub const fn task_priority(&self) -> u8 {
        self.task_priority
    }

    /// Sets the task priority, as a write to CR8 shifted left by 4 or to TPR does.
    #[inline]
    pub fn set_task_priority(&mut self, priority: u8) {
        self.task_priority = priority;
        self.update_processor_priority();
    }

    /// Takes in an edge-triggered interrupt; dropped by a disabled APIC.
    #[inline]
    pub fn post(&mut self, vector: u8) {
        if self.accepts(vector) {
            self.requested.insert(vector);
            self.level.remove(vector);
        }
    }

    /// Takes in a level-triggered interrupt, whose EOI an I/O APIC waits for ([`Lapic::is_level`]).
    pub fn post_level(&mut self, vector: u8) {
        if self.accepts(vector) {
            self.requested.insert(vector);
            self.level.insert(vector);
        }
    }

    /// Whether the last interrupt with this vector was level-triggered.
    pub const fn is_level(&self, vector: u8) -> bool {
        self.level.contains(vector)
    }

    /// The vector to inject next: requested, and of a higher class than what runs.
    #[inline]
    pub const fn highest_pending(&self) -> Option<u8> {
        match self.requested.highest() {
            Some(vector) if vector >> 4 > self.processor_priority >> 4 => Some(vector),
            _ => None,
        }
    }

    /// The processor took `vector`: requested becomes in service.
    #[inline]
    pub fn acknowledge(&mut self, vector: u8) {
        self.requested.remove(vector);
        self.in_service.insert(vector);
        self.update_processor_priority();
    }

    /// Ends the interrupt in service with the highest vector, and returns it.
    #[inline]
    pub fn end_of_interrupt(&mut self) -> Option<u8> {
        let vector = self.in_service.highest()?;
        self.in_service.remove(vector);
        self.update_processor_priority();
        Some(vector)
    }

    /// When the timer wants to be looked at: [`Tsc::NEVER`] when unarmed, a moment past when it is due.
    #[inline]
    pub const fn next_expiry(&self) -> Tsc {
        self.timer.expiry()
    }

    /// Tells the timer the time. Returns whether its interrupt was posted: once an expiry, however late, and only if it
    /// is unmasked.
    #[inline]
    pub fn expire(&mut self, now: Tsc) -> bool {
        self.timer.take_expiry(now) && self.post_local(Lvt::Timer)
    }

    /// Whether an interrupt of the 8259A on LINT0 reaches the processor: ExtINT, or no APIC in between.
    #[inline]
    pub const fn takes_external(&self) -> bool {
        !self.is_enabled() || self.lvt[Lvt::Lint0 as usize] & register::LVT_ROUTE == register::LVT_EXTINT
    }

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
        let value = match index {
            register::ID => self.id,
            register::VERSION => VERSION,
            register::TPR => u32::from(self.task_priority),
            register::PPR => u32::from(self.processor_priority),
            register::LDR => logical_id(self.id),
            register::SVR => self.spurious,
            register::ISR_0..=register::ISR_7 => self.in_service.register(index - register::ISR_0),
            register::TMR_0..=register::TMR_7 => self.level.register(index - register::TMR_0),
            register::IRR_0..=register::IRR_7 => self.requested.register(index - register::IRR_0),
            register::ESR => self.error_shown,
            register::INITIAL_COUNT => self.timer.initial(),
            register::CURRENT_COUNT => self.timer.current(now),
            register::DIVIDE => self.timer.divide(),
            _ => self.lvt[Lvt::of_msr(index).ok_or(Gp)? as usize],
        };
        Ok(u64::from(value))
    }

    /// Writes IA32_APIC_BASE, IA32_TSC_DEADLINE or an x2APIC register.
    ///
    /// # Errors
    ///
    /// [`Gp`], and nothing changed, when there is no such register, it cannot be written, a reserved bit is set, or the
    /// APIC is not in x2APIC mode (§11.12.1.2).
    #[inline]
    pub fn write_msr(&mut self, index: u32, value: u64, now: Tsc) -> Result<ApicEffect, Gp> {
        match index {
            IA32_TSC_DEADLINE => {
                self.timer.set_deadline(value);
                Ok(ApicEffect::TimerChanged)
            }
            IA32_APIC_BASE => self.write_base(value),
            _ if !self.is_x2apic() => Err(Gp),
            register::EOI if value == 0 => Ok(ApicEffect::Eoi(self.end_of_interrupt())),
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
    fn write_icr(&mut self, value: u64) -> Result<ApicEffect, Gp> {
        if value & ICR_RESERVED != 0 {
            return Err(Gp);
        }
        self.icr = value & !ICR_BUSY;
        Ok(match Request::decode(value) {
            Request::Send(ipi) => ApicEffect::Ipi(ipi),
            Request::ToSelf(vector) => self.send_to_self(vector),
            Request::IllegalVector => {
                self.report(ESR_SEND_ILLEGAL);
                ApicEffect::None
            }
            Request::Nothing => ApicEffect::None,
        })
    }

    #[inline]
    fn send_to_self(&mut self, vector: u8) -> ApicEffect {
        if vector < LOWEST_LEGAL_VECTOR {
            self.report(ESR_SEND_ILLEGAL);
            return ApicEffect::None;
        }
        self.post(vector);
        ApicEffect::SelfIpi(vector)
    }

    /// §11.12.5: the old mode may be left for x2APIC or for off; x2APIC only for off; off only for the old mode.
    fn write_base(&mut self, value: u64) -> Result<ApicEffect, Gp> {
        const MODE: u64 = BASE_ENABLE | BASE_X2APIC;
        let outside = u64::MAX.checked_shl(u32::from(self.physical_bits)).unwrap_or(0);
        if value & (register::BASE_RESERVED | outside) != 0 {
            return Err(Gp);
        }
        match (self.base & MODE, value & MODE) {
            (from, to) if from == to => {}
            (BASE_ENABLE, MODE) | (0, BASE_ENABLE) => {}
            (_, 0) => self.init(),
            _ => return Err(Gp),
        }
        self.base = value & !BASE_BSP | self.base & BASE_BSP;
        Ok(ApicEffect::TimerChanged)
    }

    /// Whether a fixed interrupt is taken in: by an enabled APIC, with a vector that is none of the exceptions.
    #[inline]
    fn accepts(&mut self, vector: u8) -> bool {
        if vector < LOWEST_LEGAL_VECTOR {
            self.report(ESR_RECEIVE_ILLEGAL);
            return false;
        }
        self.spurious & SVR_ENABLE != 0 && self.is_enabled()
    }

    /// Posts the vector of an unmasked local source.
    #[inline]
    fn post_local(&mut self, source: Lvt) -> bool {
        let entry = self.lvt[source as usize];
        let [vector, ..] = entry.to_le_bytes();
        if entry & register::LVT_MASKED != 0 || !self.accepts(vector) {
            return false;
        }
        self.requested.insert(vector);
        self.level.remove(vector);
        true
    }

    /// Latches an error, and raises the error interrupt for one that was not latched yet.
    #[cold]
    fn report(&mut self, error: u32) {
        let known = self.error_latched & error != 0;
        self.error_latched |= error;
        let entry = self.lvt[Lvt::Error as usize];
        let [vector, ..] = entry.to_le_bytes();
        if known || entry & register::LVT_MASKED != 0 {
            return;
        }
        if vector < LOWEST_LEGAL_VECTOR {
            self.error_latched |= ESR_RECEIVE_ILLEGAL;
        } else if self.spurious & SVR_ENABLE != 0 {
            self.requested.insert(vector);
            self.level.remove(vector);
        }
    }

    /// §11.8.3.1.
    #[inline]
    fn update_processor_priority(&mut self) {
        let in_service = self.in_service.highest().unwrap_or(0) & 0xF0;
        self.processor_priority =
            if self.task_priority >> 4 >= in_service >> 4 { self.task_priority } else { in_service };
    }
}
