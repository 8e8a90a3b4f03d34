//! The local APIC, emulated on any processor and programmed through the x2APIC registers.
//!
//! Section numbers: Intel SDM vol 3A, 325462-084, chapter 11. Owns IA32_APIC_BASE, MSRs 0x800 … 0x83F,
//! IA32_TSC_DEADLINE, the register page of the old mode, and the timer. The page's accesses are decoded elsewhere.
//! The caller sends messages: a write returns the message to send.

mod ipi;
mod msr;
mod page;
mod register;
mod service;
#[cfg(test)]
mod tests;
mod timer;
mod vectors;

use crate::base::time::{Frequency, Tsc};
use crate::device::rate::Rate;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::Relaxed;

pub use ipi::{Destination, Ipi, IpiDelivery, logical_id};
use register::{BASE_BSP, BASE_ENABLE, BASE_X2APIC, LVT_COUNT, Lvt};
use service::InService;
use timer::{Expiry, Mode, Timer};
use vectors::Vectors;

/// Vectors below are the processor's exceptions and cannot be sent or taken.
pub const LOWEST_LEGAL_VECTOR: u8 = 16;
const SVR_ENABLE: u32 = 1 << 8;
const SVR_AFTER_RESET: u32 = 0xFF;
const ESR_SEND_ILLEGAL: u32 = 1 << 5;
const ESR_RECEIVE_ILLEGAL: u32 = 1 << 6;

/// Role of a processor at power-on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The bootstrap processor: firmware has set its APIC up, with LINT0 as ExtINT (virtual wire).
    Bootstrap,
    /// A processor that waits for a start-up IPI.
    Application,
}

/// Parameters of a new APIC.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The x2APIC id, as CPUID leaf 0xB gives it.
    pub id: u32,
    /// The processor's role at power-on.
    pub role: Role,
    /// Width of guest-physical addresses, as CPUID leaf 0x8000_0008 gives it.
    pub physical_bits: u8,
    /// The clock of all moments given to this APIC.
    pub tsc: Frequency,
    /// The clock of the timer before division.
    pub bus: Frequency,
    /// The logical id in the flat model, shared with other processors; only this APIC writes it.
    pub flat_id: &'static AtomicU8,
}

/// Effect of a write outside the APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum ApicEffect {
    /// The write has no effect outside; a write to TPR or the base may have changed [`Lapic::highest_pending`].
    None,
    /// [`Lapic::next_expiry`] changed.
    TimerChanged,
    /// This vector is no longer in service, if one was; [`Lapic::highest_pending`] may have changed.
    Eoi(Option<u8>),
    /// The caller must send this message.
    Ipi(Ipi),
    /// This vector was posted here by its own processor.
    SelfIpi(u8),
}

/// One local APIC.
#[derive(Clone, Debug)]
pub struct Lapic {
    requested: Vectors,
    in_service: InService,
    level: Vectors,
    task_priority: u8,
    /// max(TPR, class of the highest vector in service), kept up to date.
    processor_priority: u8,
    base: u64,
    timer: Timer,
    setup: Setup,
    spurious: u32,
    lvt: [u32; LVT_COUNT],
    error_shown: u32,
    error_latched: u32,
    icr: u64,
}

impl Lapic {
    /// Returns an APIC as a PC's firmware leaves it: xAPIC mode, the bootstrap processor's enabled.
    pub fn new(setup: &Setup) -> Self {
        let mut apic = Self::after_init(*setup, if setup.role == Role::Bootstrap { BASE_BSP } else { 0 });
        apic.power_on();
        apic
    }

    fn after_init(setup: Setup, base: u64) -> Self {
        Self {
            requested: Vectors::EMPTY,
            in_service: InService::NONE,
            level: Vectors::EMPTY,
            task_priority: 0,
            processor_priority: 0,
            base,
            timer: Timer::new(Rate::of(setup.tsc, setup.bus)),
            setup,
            spurious: SVR_AFTER_RESET,
            lvt: [register::LVT_MASKED; LVT_COUNT],
            error_shown: 0,
            error_latched: 0,
            icr: 0,
        }
    }

    /// Restores the state of [`Lapic::new`], for a machine that resets: INIT alone keeps the mode and leaves LINT0 masked.
    pub fn power_on(&mut self) {
        self.base = register::BASE_ADDRESS | BASE_ENABLE | self.base & BASE_BSP;
        self.init();
        if self.base & BASE_BSP != 0 {
            self.spurious |= SVR_ENABLE;
            self.lvt[Lvt::Lint0 as usize] = register::LVT_EXTINT;
            self.lvt[Lvt::Lint1 as usize] = register::LVT_NMI;
        }
    }

    /// Sets the state after INIT: as after power-on, except for the id and IA32_APIC_BASE (§11.4.7.3).
    pub fn init(&mut self) {
        *self = Self::after_init(self.setup, self.base);
        self.set_flat_id(0);
    }

    /// Software writes LDR in the old mode only (§11.12.10.2).
    fn set_flat_id(&self, logical: u8) {
        let derived = 1_u8.checked_shl(self.setup.id).unwrap_or(0);
        self.setup.flat_id.store(if self.is_x2apic() { derived } else { logical }, Relaxed);
    }

    /// The x2APIC id.
    pub const fn id(&self) -> u32 {
        self.setup.id
    }

    /// Whether the APIC is in x2APIC mode.
    #[inline]
    pub const fn is_x2apic(&self) -> bool {
        self.base & (BASE_ENABLE | BASE_X2APIC) == BASE_ENABLE | BASE_X2APIC
    }

    /// Whether the APIC is enabled: the global enable of IA32_APIC_BASE.
    #[inline]
    pub const fn is_enabled(&self) -> bool {
        self.base & BASE_ENABLE != 0
    }

    /// The task priority; its upper four bits are CR8.
    #[inline]
    pub const fn task_priority(&self) -> u8 {
        self.task_priority
    }

    /// Updates the task priority from CR8, which holds its upper four bits. A guest's write to CR8 clears the lower four (§11.8.6); if CR8 is
    /// unchanged, the guest is taken not to have written it.
    #[inline]
    pub const fn set_task_class(&mut self, cr8: u8) {
        if self.task_priority >> 4 != cr8 {
            self.set_task_priority(cr8 << 4);
        }
    }

    /// Sets the task priority, as a write to TPR does.
    #[inline]
    pub const fn set_task_priority(&mut self, priority: u8) {
        self.task_priority = priority;
        self.update_processor_priority();
    }

    /// Requests an edge-triggered interrupt; a disabled APIC drops it.
    #[inline]
    pub fn post(&mut self, vector: u8) {
        if self.accepts(vector) {
            self.request(vector);
        }
    }

    /// Requests a level-triggered interrupt, for whose EOI an I/O APIC waits ([`Lapic::is_level`]).
    pub fn post_level(&mut self, vector: u8) {
        if self.accepts(vector) {
            self.requested.insert(vector);
            self.level.insert(vector);
        }
    }

    /// Whether the last interrupt with this vector was level-triggered.
    #[inline]
    pub const fn is_level(&self, vector: u8) -> bool {
        !self.level.is_empty() && self.level.contains(vector)
    }

    /// Returns the vector to inject next: requested, and of a higher class than the processor priority.
    #[inline]
    pub const fn highest_pending(&self) -> Option<u8> {
        match self.requested.highest() {
            Some(vector) if vector >> 4 > self.processor_priority >> 4 => Some(vector),
            _ => None,
        }
    }

    /// Returns the class of the highest request that only the task priority blocks.
    pub const fn held_back_class(&self) -> Option<u8> {
        match self.requested.highest() {
            Some(vector)
                if vector >> 4 > self.in_service.highest() >> 4 && vector >> 4 <= self.task_priority >> 4 =>
            {
                Some(vector >> 4)
            }
            _ => None,
        }
    }

    /// Moves `vector`, which [`Lapic::highest_pending`] returned, from requested to in service: the processor took it.
    #[inline]
    pub const fn acknowledge(&mut self, vector: u8) {
        self.requested.remove(vector);
        self.in_service.begin(vector);
        // The vector's class is above the previous priority.
        self.processor_priority = vector & 0xF0;
    }

    /// Whether `vector` is in service, and no other vector is in service or requested.
    pub const fn is_alone(&self, vector: u8) -> bool {
        self.in_service.is_only(vector) && self.requested.is_empty()
    }

    /// Ends the interrupt in service with the highest vector, and returns it.
    #[inline]
    pub const fn end_of_interrupt(&mut self) -> Option<u8> {
        let vector = self.in_service.highest();
        self.in_service.end();
        self.update_processor_priority();
        if vector == 0 { None } else { Some(vector) }
    }

    /// Returns the moment at which the caller must check the timer: [`Tsc::NEVER`] if unarmed, a past moment if it is due.
    #[inline]
    pub const fn next_expiry(&self) -> Tsc {
        self.timer.expiry
    }

    /// Tells the timer the time. Returns whether its interrupt was posted: once an expiry, however late, and only if it
    /// is unmasked.
    #[inline]
    pub fn expire(&mut self, now: Tsc) -> bool {
        match self.timer.take_expiry(now) {
            Expiry::None => false,
            Expiry::Once => self.post_local(Lvt::Timer),
            Expiry::Periodic => self.tick(now),
        }
    }

    /// Of a periodic timer: one tick after the other, each when the one before was taken.
    #[inline(never)]
    fn tick(&mut self, now: Tsc) -> bool {
        let entry = self.lvt[Lvt::Timer as usize];
        let [vector, ..] = entry.to_le_bytes();
        if entry & register::LVT_MASKED != 0 || !self.accepts(vector) {
            self.timer.discard_ticks();
            return false;
        }
        if self.requested.contains(vector) {
            self.timer.put_off_ticks();
            return false;
        }
        let ticks = self.timer.take_tick(now);
        if ticks {
            self.request(vector);
        }
        ticks
    }

    /// Returns the expiries of a periodic timer lost since the last call: the backlog had no room for them.
    pub const fn take_lost_ticks(&mut self) -> u64 {
        self.timer.backlog.take_lost()
    }

    /// Whether an interrupt with this vector is requested and not taken yet.
    pub const fn is_requested(&self, vector: u8) -> bool {
        self.requested.contains(vector)
    }

    /// Whether an interrupt of the 8259A on LINT0 reaches the processor: ExtINT, or no APIC in between.
    #[inline]
    pub const fn takes_external(&self) -> bool {
        !self.is_enabled() || self.lvt[Lvt::Lint0 as usize] & register::LVT_ROUTE == register::LVT_EXTINT
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

    /// Whether the APIC accepts a fixed interrupt: it must be enabled, and the vector legal.
    #[inline]
    fn accepts(&mut self, vector: u8) -> bool {
        if vector < LOWEST_LEGAL_VECTOR {
            self.report(ESR_RECEIVE_ILLEGAL);
            return false;
        }
        self.spurious & SVR_ENABLE != 0 && self.is_enabled()
    }

    /// Requests a legal vector, edge-triggered.
    #[inline]
    const fn request(&mut self, vector: u8) {
        self.requested.insert(vector);
        if !self.level.is_empty() {
            self.level.remove(vector);
        }
    }

    /// Posts the vector of an unmasked local source.
    #[inline]
    fn post_local(&mut self, source: Lvt) -> bool {
        let entry = self.lvt[source as usize];
        let [vector, ..] = entry.to_le_bytes();
        if entry & register::LVT_MASKED != 0 || !self.accepts(vector) {
            return false;
        }
        self.request(vector);
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
            self.request(vector);
        }
    }

    /// §11.8.3.1: the task priority if its class is not below the one in service, else that class. Both are the maximum.
    #[inline]
    const fn update_processor_priority(&mut self) {
        let in_service = self.in_service.highest() & 0xF0;
        self.processor_priority =
            if self.task_priority > in_service { self.task_priority } else { in_service };
    }
}
