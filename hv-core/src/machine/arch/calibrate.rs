//! Samples this machine's counters to find the rates of its clocks: the 8254's channel 2 (Intel 8254 data sheet), the ACPI
//! power-management timer (ACPI 6.5 §4.8.3.3), the APIC timer, and CPUID. [`policy::calibrate`](crate::policy::calibrate) computes
//! the rates from the samples.
#![expect(unsafe_code, reason = "port I/O")]

use super::apic::LocalApic;
use super::cpuid::{is_virtual, leaf};
use super::time::now_in_order;
use crate::base::time::{Frequency, Tsc};
use crate::policy::calibrate::{Calibration, Found, NoClock, Sample, Told};
use core::arch::x86_64::__cpuid;
use x86_64::instructions::port::Port;

/// The power-management timer (§4.8.3.3): counts up at 3.579545 MHz, and wraps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PmTimer {
    /// I/O port of the counter, read as 32 bits at once.
    pub port: u16,
    /// Width of the counter in bits: 24 or 32.
    pub bits: u32,
}

/// Limit of the rounds of samples: this many take seconds on any machine.
const PATIENCE: u32 = 1_000_000;
/// Samples of a later check, of which the one with the shortest read counts.
const SAMPLES: usize = 32;

/// The counters of known rate, and their samples.
pub struct References {
    pm: Option<PmTimer>,
    calibration: Calibration,
}

impl References {
    /// Measures both clocks: over some 40 to 100 ms, up to 150 ms if a host preempts the processor all the time, 2 s in the worst case.
    ///
    /// # Errors
    ///
    /// [`NoClock`] if no counter of known rate advances.
    pub fn measure(apic: &mut LocalApic, pm: Option<PmTimer>) -> Result<(Self, Found), NoClock> {
        start_channel_2();
        apic.repeat_timer();
        apic.set_timer(u32::MAX);
        let mut calibration = Calibration::new(pm.map(|pm| pm.bits));
        for _ in 0..PATIENCE {
            calibration.pit.add(sample_pit());
            if let Some((series, timer)) = calibration.pm.as_mut().zip(pm) {
                series.add(sample_pm(timer));
            }
            calibration.apic.add(sample(|| u32::MAX - apic.timer_left(), |count| count));
            if calibration.is_done() {
                break;
            }
        }
        apic.set_timer(0);
        apic.stop_repeating();
        let found = calibration.found(told())?;
        Ok((Self { pm, calibration }, found))
    }

    /// Samples the references again, and returns the error of `tsc` since the measurement, in millionths; negative if it is too low. `None`
    /// if the references do not allow an answer.
    pub fn off_ppm(&mut self, tsc: Frequency) -> Option<i64> {
        let pm = self.pm.and_then(|timer| tightest(|| sample_pm(timer)));
        self.calibration.revisit(tightest(sample_pit)?, pm);
        self.calibration.off_ppm(tsc)
    }
}

fn tightest(mut sample: impl FnMut() -> Sample) -> Option<Sample> {
    (0..SAMPLES).map(|_| sample()).min_by_key(|sample| sample.after.since(sample.before))
}

/// Reads a counter between two readings of the TSC; `finish` is the part of the read that need not lie between them.
fn sample<T>(read: impl FnOnce() -> T, finish: impl FnOnce(T) -> u32) -> Sample {
    let before: Tsc = now_in_order();
    let read = read();
    let after = now_in_order();
    Sample { before, count: finish(read), after }
}

const PIT_GATE: u16 = 0x61;
const PIT_COMMAND: u16 = 0x43;
const PIT_CHANNEL_2: u16 = 0x42;

/// Starts channel 2, which counts down from 65,536 repeatedly, with the speaker off.
fn start_channel_2() {
    let mut gate = Port::<u8>::new(PIT_GATE);
    let mut channel_2 = Port::<u8>::new(PIT_CHANNEL_2);
    // SAFETY: port 0x61 gates channel 2 and the speaker, 0x42 and 0x43 are the 8254's; nothing else uses channel 2.
    unsafe {
        let value = gate.read() & !0b11;
        gate.write(value | 1);
        Port::<u8>::new(PIT_COMMAND).write(0b1011_0100); // channel 2, both bytes, mode 2
        channel_2.write(0);
        channel_2.write(0);
    }
}

fn sample_pit() -> Sample {
    let latch = || {
        // SAFETY: latches the count of channel 2, which changes nothing.
        unsafe { Port::<u8>::new(PIT_COMMAND).write(0b1000_0000) }
    };
    let latched = |()| {
        let mut channel_2 = Port::<u8>::new(PIT_CHANNEL_2);
        // SAFETY: reads both bytes of the latched count; nothing else reads this channel.
        let bytes = unsafe { [channel_2.read(), channel_2.read()] };
        u32::from(0_u16.wrapping_sub(u16::from_le_bytes(bytes)))
    };
    sample(latch, latched)
}

fn sample_pm(timer: PmTimer) -> Sample {
    let mask = u32::MAX >> (u32::BITS - timer.bits.clamp(1, u32::BITS));
    // SAFETY: the firmware's table says that the timer is at this port; reading it changes nothing.
    sample(|| unsafe { Port::<u32>::new(timer.port).read() }, |count| count & mask)
}

/// Returns the TSC's rate as CPUID reports it: the ratio to a crystal's (SDM vol 2A, leaf 15h); the rate reported by the hypervisor
/// below this one (leaf 4000_0010h: kHz; VMware's, KVM's and others'); the processor's base frequency (leaf 16h: MHz), an approximation.
fn told() -> Option<Told> {
    let exact = |khz: u64| Some(Told { tsc: Frequency::from_khz(khz)?, is_exact: true });
    let [denominator, numerator, crystal_hz, _] = leaf(0x15, 0);
    let hz = (u64::from(crystal_hz) * u64::from(numerator)).checked_div(denominator.into());
    if let Some(told) = hz.and_then(|hz| exact(hz / 1000)) {
        return Some(told);
    }
    if is_virtual()
        && (0x4000_0010..0x4001_0000).contains(&__cpuid(0x4000_0000).eax)
        && let Some(told) = exact(u64::from(__cpuid(0x4000_0010).eax))
    {
        return Some(told);
    }
    let base_mhz = leaf(0x16, 0)[0] & 0xffff;
    Some(Told { tsc: Frequency::from_khz(u64::from(base_mhz) * 1000)?, is_exact: false })
}
