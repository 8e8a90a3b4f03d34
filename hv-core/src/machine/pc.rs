//! The real machine behind [`Hardware`], as one of its processors sees it.

use super::arch::apic::{Ipi, LocalApic};
use super::arch::calibrate::References;
use super::arch::translator::Translator;
use super::arch::{interrupts, machine_check, time};
use super::serial_log::SerialLog;
use crate::base::hardware::Hardware;
use crate::base::id::CpuId;
use crate::base::time::{Frequency, Tsc};
use crate::guest::platform::Platform;
use crate::machine::memory::Ram;
use crate::machine::vt::Vendor;
use crate::policy::calibrate::Found;
use core::marker::PhantomData;
use x86_64::instructions::random::RdRand;

/// One processor of a PC, with its local APIC and its access to the serial log.
pub struct Pc {
    apic: LocalApic,
    /// APIC timer ticks per TSC tick, as a binary fraction with 32 bits behind the point.
    apic_per_tsc: u64,
    log: &'static SerialLog,
    /// Local APIC ids, by processor.
    apic_ids: &'static [u32],
    /// State of the random numbers: each new value is mixed with it.
    stirred: u64,
    /// Smallest count for the timer, in its ticks: 0 would stop it.
    shortest: u32,
    /// Whether the timer runs in periodic mode until the hypervisor has taken its interrupt.
    repeats: bool,
    /// The references by which the clock is measured; on the first processor only.
    references: Option<References>,
}

/// Shortest period of a timer in periodic mode: one that expired at once would expire again before the hypervisor could handle it.
const SHORTEST_PERIOD_NS: u64 = 10_000;

impl Pc {
    /// Makes the processor's hardware from its parts; starts periodic mode if the translator needs it.
    pub fn new(
        mut apic: LocalApic,
        clocks: Found,
        log: &'static SerialLog,
        apic_ids: &'static [u32],
    ) -> Self {
        let repeats = Translator::find(clocks.tsc) == Some(Translator::Threaded);
        if repeats {
            apic.repeat_timer();
        }
        let shortest = u32::try_from(clocks.apic.ticks(SHORTEST_PERIOD_NS).0).unwrap_or(u32::MAX);
        Self {
            apic,
            apic_per_tsc: (clocks.apic.khz() << 32) / clocks.tsc.khz(),
            log,
            apic_ids,
            stirred: time::now().0,
            shortest: if repeats { shortest } else { 1 },
            repeats,
            references: None,
        }
    }

    /// Gives this processor the references by which it measures the error of its clock.
    pub fn refer_to(&mut self, references: References) {
        self.references = Some(references);
    }

    /// Stops a timer in periodic mode after its interrupt was taken; the main loop arms it again if it needs it.
    #[inline]
    fn stop_period(&mut self) {
        if self.repeats {
            self.apic.set_timer(0);
        }
    }
}

/// A PC with the processors of one vendor.
#[derive(Debug)]
pub struct PcOf<V>(PhantomData<V>);

impl<V: Vendor> Platform for PcOf<V> {
    type Processor = V::Processor;
    type Hardware = Pc;
    type Ram = Ram;
}

impl Hardware for Pc {
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
        // A wait beyond the timer's range ends early, and the caller arms the timer again.
        self.apic.set_timer(u32::try_from(count).unwrap_or(u32::MAX).max(self.shortest));
    }

    #[inline]
    fn take_interrupts(&mut self) {
        interrupts::take();
        self.stop_period();
        self.serve_console();
    }

    fn wait(&mut self) -> bool {
        interrupts::wait();
        self.stop_period();
        self.serve_console();
        true
    }

    fn kick(&mut self, cpu: CpuId) {
        if let Some(id) = self.apic_ids.get(usize::from(cpu.0)) {
            self.apic.send(*id, Ipi::Kick);
        }
    }

    #[inline]
    fn serve_console(&mut self) {
        if self.log.waits() {
            self.log.pump();
        }
    }

    fn console_room(&mut self) -> usize {
        self.log.room()
    }

    fn console_write(&mut self, text: &[u8]) {
        self.log.write(text);
    }

    fn console_read(&mut self) -> Option<u8> {
        self.log.read()
    }

    fn random(&mut self) -> u64 {
        // RDRAND's value, if the processor has it. Guests see the time-stamp counter too, so it is only mixed in.
        let made = RdRand::new().and_then(RdRand::get_u64).unwrap_or(0);
        self.stirred = (self.stirred ^ time::now().0).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        made ^ self.stirred
    }

    fn has_failed(&self) -> bool {
        machine_check::is_in_progress()
    }

    fn fail(&mut self) -> ! {
        machine_check::was_intercepted()
    }

    fn telemetry_write(&mut self, bytes: &[u8]) {
        self.log.tell(bytes);
    }

    fn clock_off_ppm(&mut self, tsc: Frequency) -> Option<i64> {
        self.references.as_mut()?.off_ppm(tsc)
    }
}
