//! Time: TSC ticks, and nanoseconds made of them.
//!
//! A cooperative guest takes the rate from the status table's header. Others measure the TSC and the local APIC's timer
//! against channel 2 of the PIT, whose frequency is 1.193182 MHz on every PC.

use crate::arch::cpu;
use crate::arch::lapic::{self, Register};
use crate::arch::port::SafePort;
use crate::{cooperative, platform};
use core::sync::atomic::{AtomicU64, Ordering};

const PIT_HZ: u64 = 1_193_182;
/// Shortest measurement, in PIT ticks: 16.8 ms, so that one tick at either end is 100 ppm together.
const MEASURE_PIT_TICKS: u64 = 20_000;
/// TSC ticks between two looks at the PIT: each look is several exits in a guest.
const LOOK_EVERY_TICKS: u64 = 1 << 21;
/// Most looks; a PIT that stands still is given up after them.
const MAX_LOOKS: u32 = 512;
/// Assumed when the PIT cannot be used, in kHz.
const FALLBACK_KHZ: u64 = 1_000_000;
/// Makers give frequencies in whole MHz; a measured one this near to a MHz is that (in millionths).
const ROUND_WITHIN_PPM: u64 = 150;

static TSC_KHZ: AtomicU64 = AtomicU64::new(FALLBACK_KHZ);
static APIC_KHZ: AtomicU64 = AtomicU64::new(0);
static NS_A_TICK: AtomicU64 = AtomicU64::new(0);
static TICKS_A_NS: AtomicU64 = AtomicU64::new(0);
/// Ticks that had passed at the moment that counts as zero.
static ZERO_TICKS: AtomicU64 = AtomicU64::new(0);

/// The time-stamp counter.
#[inline]
pub fn ticks() -> u64 {
    cpu::rdtsc()
}

/// Nanoseconds since the TSC was zero, or since `zero_ms=N` on the command line: where firmware took that long before the
/// hypervisor, guests that agree on a moment count from there.
#[inline]
pub fn now_ns() -> u64 {
    ns_from_ticks(ticks().saturating_sub(ZERO_TICKS.load(Ordering::Relaxed)))
}

/// The tick at which [`now_ns`] says this.
#[inline]
pub fn ticks_at_ns(ns: u64) -> u64 {
    ticks_from_ns(ns).saturating_add(ZERO_TICKS.load(Ordering::Relaxed))
}

pub(crate) fn set_zero(ns: u64) {
    ZERO_TICKS.store(ticks_from_ns(ns), Ordering::Relaxed);
}

/// TSC ticks as nanoseconds.
#[inline]
pub fn ns_from_ticks(ticks: u64) -> u64 {
    scale(ticks, NS_A_TICK.load(Ordering::Relaxed))
}

/// Nanoseconds as TSC ticks.
#[inline]
pub fn ticks_from_ns(ns: u64) -> u64 {
    scale(ns, TICKS_A_NS.load(Ordering::Relaxed))
}

/// Frequency of the TSC in kHz.
pub fn tsc_khz() -> u64 {
    TSC_KHZ.load(Ordering::Relaxed)
}

/// Frequency of the local APIC's timer in kHz; 0 where it was not measured.
pub(crate) fn apic_khz() -> u64 {
    APIC_KHZ.load(Ordering::Relaxed)
}

/// Multiplies by a binary fraction with 32 bits behind the point; saturates.
#[inline]
fn scale(value: u64, factor: u64) -> u64 {
    u64::try_from((u128::from(value) * u128::from(factor)) >> 32).unwrap_or(u64::MAX)
}

/// `numerator / denominator` with 32 bits behind the point.
fn fraction(numerator: u64, denominator: u64) -> u64 {
    let fraction = (u128::from(numerator) << 32) / u128::from(denominator.max(1));
    u64::try_from(fraction).unwrap_or(u64::MAX)
}

/// Finds the rates.
pub(crate) fn start() {
    if let Some((khz, mul)) = cooperative::rate() {
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

/// Frequencies of the TSC and of the local APIC's timer in kHz.
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
    let apic = || if with_apic { lapic::read(Register::TIMER_CURRENT) } else { 0 };
    let (mut last_count, start_tsc, start_apic) = (pit_count(), ticks(), apic());
    let mut pit_ticks = 0;
    for _ in 0..MAX_LOOKS {
        let until = ticks().wrapping_add(LOOK_EVERY_TICKS);
        while ticks() < until {}
        let count = pit_count();
        pit_ticks += u64::from(last_count.wrapping_sub(count));
        last_count = count;
        if pit_ticks >= MEASURE_PIT_TICKS {
            let (tsc, apic) = (ticks().wrapping_sub(start_tsc), start_apic.wrapping_sub(apic()));
            if with_apic {
                lapic::write(Register::TIMER_INITIAL, 0);
            }
            return Some((khz(tsc, pit_ticks), khz(u64::from(apic), pit_ticks)));
        }
    }
    None
}

fn pit_count() -> u16 {
    SafePort::PIT_COMMAND.write_u8(0b1000_0000); // latch channel 2
    let low = SafePort::PIT_CHANNEL_2.read_u8();
    u16::from_le_bytes([low, SafePort::PIT_CHANNEL_2.read_u8()])
}

/// The frequency of a counter that made `counted` steps during `pit_ticks`, rounded to a MHz that is near enough.
fn khz(counted: u64, pit_ticks: u64) -> u64 {
    let measured = u128::from(counted) * u128::from(PIT_HZ) / u128::from(pit_ticks.max(1)) / 1000;
    let measured = u64::try_from(measured).unwrap_or(FALLBACK_KHZ);
    let whole = measured.saturating_add(500) / 1000 * 1000;
    if whole.abs_diff(measured).saturating_mul(1_000_000) <= measured.saturating_mul(ROUND_WITHIN_PPM) {
        whole
    } else {
        measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_frequency_is_rounded_only_when_a_mhz_is_near() {
        for (counted, pit_ticks, expected) in [
            (16_762_000, 20_000, 1_000_000), // 1 GHz, 6 ppm off
            (16_759_910, 20_000, 1_000_000), // 120 ppm off
            (16_700_000, 20_000, 996_306),   // no MHz near
            (0, 20_000, 0),
        ] {
            assert_eq!(khz(counted, pit_ticks), expected, "{counted} in {pit_ticks}");
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
