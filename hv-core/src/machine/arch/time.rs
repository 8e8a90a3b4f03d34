//! The time-stamp counter and the wall clock.
#![expect(unsafe_code, reason = "RDTSC and the CMOS ports")]

use crate::base::time::{Frequency, Tsc};
use crate::device::rtc::calendar::{Date, UNIX_EPOCH_S};
use core::arch::x86_64::_rdtsc;
use x86_64::instructions::port::Port;

/// Reads the time-stamp counter.
#[inline]
pub fn now() -> Tsc {
    // SAFETY: RDTSC exists on every x86-64 processor and CR4.TSD does not matter at CPL 0.
    Tsc(unsafe { _rdtsc() })
}

/// Reads the time-stamp counter after all earlier instructions and before all later ones (SDM vol 2B, RDTSC).
pub fn now_in_order() -> Tsc {
    // SAFETY: SSE2, which every x86-64 processor has.
    unsafe { core::arch::x86_64::_mm_lfence() };
    let now = now();
    // SAFETY: as above.
    unsafe { core::arch::x86_64::_mm_lfence() };
    now
}

/// Waits until `done` returns true, for at most `ns` nanoseconds. Returns the last value of `done`.
pub fn wait(tsc: Frequency, ns: u64, done: impl Fn() -> bool) -> bool {
    let until = now() + tsc.ticks(ns);
    while !done() && now() < until {
        core::hint::spin_loop();
    }
    done()
}

/// Readings of the CMOS clock, of which the one that took the fewest ticks counts: a host may stop this processor during any reading.
const WALL_SAMPLES: usize = 4;
/// Limit of repeated readings of the CMOS clock's registers, until two readings in a row are equal.
const SNAPSHOTS: u32 = 16;

/// Returns the Unix time in nanoseconds at which the time-stamp counter was 0, in two's complement, by the CMOS clock, whose resolution
/// is a second.
pub fn wall_ns_at_zero(tsc: Frequency) -> u64 {
    let samples = [(); WALL_SAMPLES].map(|()| {
        let before = now();
        let seconds = wall_clock_seconds();
        (now().since(before), seconds, before)
    });
    let tightest = samples.into_iter().min_by_key(|(width, ..)| *width);
    let (_, seconds, at) = tightest.unwrap_or_default();
    (seconds * 1_000_000_000).wrapping_sub(tsc.ns(at.since(Tsc(0))))
}

/// Returns seconds since 1970 by the CMOS clock, or 0 if its registers hold no valid date (MC146818: registers 0 2 4 7 8 9, A, B).
pub fn wall_clock_seconds() -> u64 {
    let mut index = Port::<u8>::new(0x70);
    let mut data = Port::<u8>::new(0x71);
    let mut register = |n: u8| {
        // SAFETY: the CMOS index and data ports; NMI stays disabled (bit 7) only during the access, which is harmless.
        unsafe {
            index.write(n);
            data.read()
        }
    };
    let mut snapshot = || {
        for _ in 0..10_000 {
            if register(0x0a) & 0x80 == 0 {
                break;
            }
        }
        [0x00, 0x02, 0x04, 0x07, 0x08, 0x09].map(&mut register)
    };
    // A second may pass between two register reads, so a reading counts only if the next one is equal.
    let mut fields = snapshot();
    if !(0..SNAPSHOTS).any(|_| core::mem::replace(&mut fields, snapshot()) == fields) {
        return 0;
    }
    let binary = register(0x0b) & 0x04 != 0;
    let value = |field: u8| u64::from(if binary { field } else { (field >> 4) * 10 + (field & 0xf) });
    let [second, minute, hour, day, month, year] = fields.map(value);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return 0;
    }
    let (year, hour, minute, second) = (2000 + year % 100, hour % 24, minute % 60, second % 60);
    Date { year, month, day, hour, minute, second }.seconds() - UNIX_EPOCH_S
}

/// Waits `seconds` by the CMOS clock; returns at once if that clock gives no valid time.
pub fn wait_seconds(seconds: u64) {
    /// Time-stamp counter ticks in a second, above the rate of any processor: bounds the wait.
    const TICKS_A_SECOND: u64 = 10_000_000_000;
    let (begin_s, begin) = (wall_clock_seconds(), now());
    while (begin_s..begin_s + seconds).contains(&wall_clock_seconds())
        && begin_s != 0
        && now().since(begin).0 < seconds * TICKS_A_SECOND
    {
        core::hint::spin_loop();
    }
}
