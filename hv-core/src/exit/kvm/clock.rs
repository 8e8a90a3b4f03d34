//! kvmclock: nanoseconds since the guest began, from its time-stamp counter. The hypervisor writes it once per enabling: all
//! vCPUs share one counter, whose rate never changes (docs/decisions/0003).

use crate::base::addr::GuestPhys;
use crate::base::hardware::{GuestBytes, Hardware};
use crate::base::time::{Frequency, Tsc};
use crate::exit::cpu::CpuContext;
use crate::guest::guest::Guest;
use crate::guest::platform::Platform;
use core::sync::atomic::Ordering::Relaxed;

/// PVCLOCK_TSC_STABLE_BIT: all vCPUs read the same clock.
const STABLE: u8 = 1 << 0;
const NS_PER_S: u64 = 1_000_000_000;

/// How ticks become nanoseconds: `(ticks << shift) * multiplier >> 32`, a negative shift to the right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Scale {
    multiplier: u32,
    shift: i8,
}

impl Scale {
    /// The scale for `tsc`, with the multiplier as large as 32 bits allow.
    fn of(tsc: Frequency) -> Self {
        let mut hz = tsc.khz().saturating_mul(1000).max(1);
        let mut shift = 0;
        while hz > 2 * NS_PER_S {
            hz >>= 1;
            shift -= 1;
        }
        while hz <= NS_PER_S {
            hz <<= 1;
            shift += 1;
        }
        Self { multiplier: u32::try_from((NS_PER_S << 32) / hz).unwrap_or(u32::MAX), shift }
    }
}

/// Nanoseconds between the guest's beginning and a moment.
fn since_begin<P: Platform>(guest: &Guest<P::Ram>, core: &CpuContext<P>, now: Tsc) -> u64 {
    core.ns(now.since(Tsc(guest.life.began.load(Relaxed))).0)
}

/// Writes the clock of a vCPU (struct pvclock_vcpu_time_info, 32 bytes). Writes nothing if `at` is outside the guest's
/// memory.
pub fn write<P: Platform>(guest: &Guest<P::Ram>, core: &CpuContext<P>, at: GuestPhys) {
    let now = core.hardware.now();
    let scale = Scale::of(core.tsc);
    let mut bytes = heapless::Vec::<u8, 32>::new();
    // The version is even: the only reader is this vCPU, and it does not run while the hypervisor writes.
    let stable = if guest.usable_tsc { STABLE } else { 0 };
    let parts: [&[u8]; 6] = [
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &now.0.to_le_bytes(),
        &since_begin(guest, core, now).to_le_bytes(),
        &scale.multiplier.to_le_bytes(),
        &scale.shift.to_le_bytes(),
        &[stable, 0, 0],
    ];
    for part in parts {
        let _ = bytes.extend_from_slice(part); // 32 bytes together
    }
    let _ = guest.ram.write(at, &bytes);
}

/// Writes the Unix time at which the guest began, in seconds and nanoseconds (struct pvclock_wall_clock, 12 bytes).
pub fn write_wall_clock<P: Platform>(guest: &Guest<P::Ram>, core: &CpuContext<P>, at: GuestPhys) {
    let began_ns = core.system.wall_ns.wrapping_add(core.ns(guest.life.began.load(Relaxed)));
    let low = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[4..8].copy_from_slice(&low(began_ns / NS_PER_S));
    bytes[8..].copy_from_slice(&low(began_ns % NS_PER_S));
    let _ = guest.ram.write(at, &bytes);
}

/// Writes the wall clock and the counter at one moment (struct kvm_clock_pairing, 64 bytes). Returns false if `at` is outside
/// the guest's memory.
pub fn write_pairing<P: Platform>(guest: &Guest<P::Ram>, core: &CpuContext<P>, at: GuestPhys) -> bool {
    let now = core.hardware.now();
    let unix_ns = core.system.wall_ns.wrapping_add(core.ns(now.0));
    let mut bytes = [0; 64];
    for (place, value) in bytes.chunks_exact_mut(8).zip([unix_ns / NS_PER_S, unix_ns % NS_PER_S, now.0]) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    guest.ram.write(at, &bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_at_every_frequency() {
        for khz in [1_000, 24_000, 999_999, 1_000_000, 1_000_001, 2_000_000, 2_598_455, 5_700_000] {
            let scale = Scale::of(Frequency::from_khz(khz).unwrap());
            let second = u128::from(khz * 1000);
            let shifted = if scale.shift < 0 { second >> -scale.shift } else { second << scale.shift };
            let ns = (shifted * u128::from(scale.multiplier)) >> 32;
            assert!(ns.abs_diff(1_000_000_000) < 5, "{khz}: {ns} {scale:?}");
            assert!(scale.multiplier >= 1 << 31, "{khz}: {scale:?}");
        }
    }
}
