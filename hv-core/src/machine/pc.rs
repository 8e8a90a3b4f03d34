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

/// A PC's processor and what is around it.
pub struct Pc {
    apic: LocalApic,
    /// APIC timer ticks a TSC tick, as a binary fraction with 32 bits behind the point.
    apic_per_tsc: u64,
    log: &'static SerialLog,
    /// By processor.
    apic_ids: &'static [u32],
    /// What random numbers are mixed with.
    stirred: u64,
    /// Fewest ticks that the timer is set to: 0 would stop it.
    shortest: u32,
    /// The timer goes on in periods until it was seen.
    repeats: bool,
    /// The first processor's: what the clock is measured by.
    references: Option<References>,
}

/// Where the timer repeats: one that ran down at once would run down again before anyone could look.
const SHORTEST_PERIOD_NS: u64 = 10_000;

impl Pc {
    /// Puts the parts together.
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

    /// Has this processor know how far off its clock is.
    pub fn refer_to(&mut self, references: References) {
        self.references = Some(references);
    }

    /// Interrupts were seen, and whoever wants the timer will start it again.
    #[inline]
    fn stop_period(&mut self) {
        if self.repeats {
            self.apic.set_timer(0);
        }
    }
}

/// A PC with processors of one vendor's.
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
        // A wait beyond the timer's range ends early, and whoever asked looks again.
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
        // What the processor makes, where it does; the counter else, which guests see too, and so is only stirred in.
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
