//! The real machine behind [`Hardware`].

use super::arch::apic::LocalApic;
use super::arch::calibrate::Clocks;
use super::arch::serial::Serial;
use super::arch::{interrupts, time};
use crate::base::hardware::Hardware;
use crate::base::time::Tsc;

/// A PC.
pub struct Platform {
    apic: LocalApic,
    /// APIC timer ticks a TSC tick, as a binary fraction with 32 bits behind the point.
    apic_per_tsc: u64,
    /// For people.
    pub com1: Serial,
    /// For programs.
    com2: Serial,
}

impl Platform {
    /// Puts the parts together.
    pub const fn new(apic: LocalApic, clocks: Clocks, com1: Serial, com2: Serial) -> Self {
        Self { apic, apic_per_tsc: (clocks.apic.khz() << 32) / clocks.tsc.khz(), com1, com2 }
    }
}

impl Hardware for Platform {
    #[inline]
    fn now(&self) -> Tsc {
        time::now()
    }

    #[inline]
    fn arm_timer(&mut self, at: Tsc) {
        if at == Tsc::NEVER {
            self.apic.set_timer(0);
            return;
        }
        let count = (u128::from(at.since(self.now()).0) * u128::from(self.apic_per_tsc)) >> 32;
        // A zero count would stop the timer; a wait beyond its range ends early, and whoever asked looks again.
        self.apic.set_timer(u32::try_from(count.max(1)).unwrap_or(u32::MAX));
    }

    #[inline]
    fn take_interrupts(&mut self) {
        interrupts::take();
    }

    fn wait(&mut self) {
        interrupts::wait();
    }

    fn console_write(&mut self, text: &[u8]) {
        self.com1.write(text);
    }

    fn console_read(&mut self) -> Option<u8> {
        self.com1.read()
    }

    fn telemetry_write(&mut self, bytes: &[u8]) {
        self.com2.write(bytes);
    }
}
