//! Time: TSC ticks, and their conversion to nanoseconds.
//!
//! A cooperative guest takes the TSC rate from the status table's header. The other modes measure the TSC and the local
//! APIC's timer against channel 2 of the PIT, which runs at 1.193182 MHz on every PC. They read it many times, because
//! the hypervisor may deschedule the vCPU during any single reading.
//!
//! ```
//! use guest_kernel_shim::clock;
//!
//! let begin = clock::ticks();
//! let sum: u64 = core::hint::black_box(0..1_000).sum();
//! let spent_ns = clock::ns_from_ticks(clock::ticks().saturating_sub(begin));
//! # assert_eq!((sum, spent_ns), (499_500, 0)); // nobody has started the clock here
//! ```

use crate::arch::cpu;
use crate::arch::lapic::{self, Register};
use crate::arch::port::SafePort;
use crate::arch::tables::Rate;
use crate::platform;
use core::sync::atomic::{AtomicU64, Ordering};
use fit::{Fit, Sample, Span};

mod fit;

const PIT_HZ: u64 = 1_193_182;
/// Error in millionths at which a measurement is good enough to end. Without disturbance, it takes 17 ms to get there,
/// because the reading at either end is uncertain by one PIT tick.
const GOOD_PPM: u64 = 60;
/// Most readings of a measurement, which take about a second. After these, the best fit so far counts; if the PIT did
/// not move, there is none.
const MAX_LOOKS: u32 = 512;
/// TSC rate in kHz if the PIT cannot be used.
const FALLBACK_KHZ: u64 = 1_000_000;
static TSC_KHZ: AtomicU64 = AtomicU64::new(FALLBACK_KHZ);
static APIC_KHZ: AtomicU64 = AtomicU64::new(0);
static NS_A_TICK: AtomicU64 = AtomicU64::new(0);
static TICKS_A_NS: AtomicU64 = AtomicU64::new(0);
/// TSC value that [`now_ns`] counts from.
static ZERO_TICKS: AtomicU64 = AtomicU64::new(0);

/// The time-stamp counter.
#[inline]
pub fn ticks() -> u64 {
    cpu::rdtsc()
}

/// Nanoseconds since the TSC was zero. `zero_ms=N` on the command line moves the origin: firmware may take a long time
/// before the hypervisor starts, and guests that share a time line then count from that moment.
#[inline]
pub fn now_ns() -> u64 {
    ns_from_ticks(ticks().saturating_sub(ZERO_TICKS.load(Ordering::Relaxed)))
}

/// The TSC value at which [`now_ns`] returns `ns`.
#[inline]
pub fn ticks_at_ns(ns: u64) -> u64 {
    ticks_from_ns(ns).saturating_add(ZERO_TICKS.load(Ordering::Relaxed))
}

pub(crate) fn set_zero(ns: u64) {
    ZERO_TICKS.store(ticks_from_ns(ns), Ordering::Relaxed);
}

/// Converts TSC ticks to nanoseconds.
#[inline]
pub fn ns_from_ticks(ticks: u64) -> u64 {
    scale(ticks, NS_A_TICK.load(Ordering::Relaxed))
}

/// Converts nanoseconds to TSC ticks.
#[inline]
pub fn ticks_from_ns(ns: u64) -> u64 {
    scale(ns, TICKS_A_NS.load(Ordering::Relaxed))
}

/// TSC frequency in kHz.
pub fn tsc_khz() -> u64 {
    TSC_KHZ.load(Ordering::Relaxed)
}

/// Frequency of the local APIC's timer in kHz; 0 if it was not measured.
pub(crate) fn apic_khz() -> u64 {
    APIC_KHZ.load(Ordering::Relaxed)
}

/// Multiplies by a 32.32 fixed-point factor; saturates.
#[inline]
fn scale(value: u64, factor: u64) -> u64 {
    u64::try_from((u128::from(value) * u128::from(factor)) >> 32).unwrap_or(u64::MAX)
}

/// `numerator / denominator` as a 32.32 fixed-point number.
fn fraction(numerator: u64, denominator: u64) -> u64 {
    let fraction = (u128::from(numerator) << 32) / u128::from(denominator.max(1));
    u64::try_from(fraction).unwrap_or(u64::MAX)
}

/// Sets the TSC rate that the hypervisor gave; measures it if there is none.
pub(crate) fn start(given: Option<Rate>) {
    if let Some(Rate { khz, mul }) = given.filter(|rate| rate.khz != 0 && rate.mul != 0) {
        set(khz, mul);
    } else {
        let (tsc_khz, apic_khz) = measure().unwrap_or((FALLBACK_KHZ, FALLBACK_KHZ));
        APIC_KHZ.store(apic_khz, Ordering::Relaxed);
        set(tsc_khz, fraction(1_000_000, tsc_khz));
    }
}

fn set(khz: u64, mul: u64) {
    TSC_KHZ.store(khz, Ordering::Relaxed);
    NS_A_TICK.store(mul, Ordering::Relaxed);
    TICKS_A_NS.store(fraction(khz, 1_000_000), Ordering::Relaxed);
}

/// Measures the frequencies of the TSC and of the local APIC's timer, in kHz.
fn measure() -> Option<(u64, u64)> {
    let gate = SafePort::PIT_GATE.read_u8();
    SafePort::PIT_GATE.write_u8(gate & !0b10 | 0b01);
    SafePort::PIT_COMMAND.write_u8(0b1011_0100); // channel 2, both bytes, rate generator: it counts down and wraps
    SafePort::PIT_CHANNEL_2.write_u8(0);
    SafePort::PIT_CHANNEL_2.write_u8(0);
    let with_apic = !platform::has_tsc_deadline();
    if with_apic {
        lapic::write(Register::TIMER_DIVIDE, 0b1011);
        lapic::write(Register::LVT_TIMER, 1 << 16);
        lapic::write(Register::TIMER_INITIAL, u32::MAX);
    }
    let (mut pit, mut apic) = (Fit::new(1 << 16), Fit::new(1 << 32));
    let is_good = |fit: &Fit| fit.best().is_some_and(|best| best.off_ppm <= GOOD_PPM);
    for _ in 0..MAX_LOOKS {
        pit.add(sample_pit());
        if with_apic {
            apic.add(sample_apic());
        }
        if is_good(&pit) && (!with_apic || is_good(&apic)) {
            break;
        }
        let pause = if with_apic { pit.pause_ticks().min(apic.pause_ticks()) } else { pit.pause_ticks() };
        let until = ticks().wrapping_add(pause);
        while ticks() < until {}
    }
    if with_apic {
        lapic::write(Register::TIMER_INITIAL, 0);
    }
    let tsc_khz = khz(pit.best()?);
    let apic_khz = apic.best().map_or(0, |best| scaled(tsc_khz, best.counts, best.ticks));
    Some((tsc_khz, rounded(apic_khz)))
}

fn sample_pit() -> Sample {
    let before = ticks();
    SafePort::PIT_COMMAND.write_u8(0b1000_0000); // latch channel 2
    let after = ticks();
    let low = SafePort::PIT_CHANNEL_2.read_u8();
    let count = u16::from_le_bytes([low, SafePort::PIT_CHANNEL_2.read_u8()]);
    Sample { before, count: u64::from(0_u16.wrapping_sub(count)), after }
}

fn sample_apic() -> Sample {
    let before = ticks();
    let left = lapic::read(Register::TIMER_CURRENT);
    Sample { before, count: u64::from(u32::MAX - left), after: ticks() }
}

/// The TSC frequency in kHz, from TSC ticks and PIT counts over the same span.
fn khz(best: Span) -> u64 {
    rounded(scaled(PIT_HZ, best.ticks, best.counts) / 1000)
}

fn scaled(value: u64, by: u64, of: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(by) / u128::from(of.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Rounds to a multiple of 100 MHz if the measurement's error allows it: most processors and emulators have such a
/// frequency.
fn rounded(khz: u64) -> u64 {
    let round = khz.saturating_add(50_000) / 100_000 * 100_000;
    if round.abs_diff(khz).saturating_mul(1_000_000) <= khz.saturating_mul(GOOD_PPM) { round } else { khz }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_frequency_is_rounded_only_when_a_hundred_mhz_are_near() {
        for (ticks, counts, expected) in [
            (16_762_000, 20_000, 1_000_000), // 1 GHz, 6 ppm off
            (16_761_000, 20_000, 1_000_000), // 54 ppm off
            (16_760_600, 20_000, 999_922),   // 78 ppm off
            (16_700_000, 20_000, 996_306),   // no multiple near
            (0, 20_000, 0),
        ] {
            assert_eq!(khz(Span { counts, ticks, off_ppm: 0 }), expected, "{ticks} in {counts}");
        }
    }

    #[test]
    fn scaling_is_exact_at_a_gigahertz_and_saturates() {
        let one = fraction(1_000_000, 1_000_000);
        assert_eq!(scale(u64::MAX, one), u64::MAX);
        assert_eq!(scale(123_456_789, one), 123_456_789);
        assert_eq!(scale(1_000, fraction(1_000_000, 2_000_000)), 500);
        assert_eq!(scale(u64::MAX, u64::MAX), u64::MAX);
    }
}
