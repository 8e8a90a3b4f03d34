//! What kernels do to the clock.

use super::*;
use proptest::prelude::*;

const HZ: u64 = 1_000_000_000;
/// 2026-11-23 05:52:05 UTC, a Monday.
const UNIX_S: u64 = 20_780 * 86_400 + 5 * 3600 + 52 * 60 + 5;

fn rtc() -> Rtc {
    let tsc = Frequency::from_khz(HZ / 1000).unwrap();
    Rtc::new(tsc, Tsc(0), UNIX_S, 192)
}

fn read(rtc: &mut Rtc, index: u8, now: u64) -> u8 {
    rtc.select(index);
    rtc.read(Tsc(now))
}

fn write(rtc: &mut Rtc, index: u8, value: u8, now: u64) {
    rtc.select(index);
    rtc.write(value, Tsc(now));
}

/// Second, minute, hour, weekday, day, month, year, century.
fn time(rtc: &mut Rtc, now: u64) -> [u8; 8] {
    [0, 2, 4, 6, 7, 8, 9, 0x32].map(|index| read(rtc, index, now))
}

/// `mc146818_get_time` of Linux 6.1.
#[test]
fn linux_reads_the_time_in_bcd() {
    let mut rtc = rtc();
    assert_eq!(read(&mut rtc, 0x0D, 0), 0x80);
    assert_eq!(read(&mut rtc, 0x0B, 0), 0x02);
    assert_eq!(read(&mut rtc, 0x0A, 0), 0x26);
    assert_eq!(time(&mut rtc, 0), [0x05, 0x52, 0x05, 2, 0x23, 0x11, 0x26, 0x20]);
    assert_eq!(time(&mut rtc, 55 * HZ), [0x00, 0x53, 0x05, 2, 0x23, 0x11, 0x26, 0x20]);
}

#[test]
fn the_hour_follows_the_data_mode() {
    for (control, hour, evening) in [(0x02, 0x05, 0x17), (0x00, 0x05, 0x85), (0x06, 5, 17), (0x04, 5, 0x85)] {
        let mut rtc = rtc();
        write(&mut rtc, 0x0B, control, 0);
        assert_eq!(read(&mut rtc, 4, 0), hour, "control={control:#x}");
        assert_eq!(read(&mut rtc, 4, 12 * 3600 * HZ), evening, "control={control:#x}");
    }
}

/// `mc146818_does_rtc_work` and `mc146818_avoid_UIP`: the update flag comes just before the second and goes with it.
#[test]
fn the_update_flag_precedes_the_second() {
    let mut rtc = rtc();
    assert_eq!(read(&mut rtc, 0x0A, HZ - 245_000), 0x26);
    assert_eq!(read(&mut rtc, 0x0A, HZ - 200_000), 0xA6);
    assert_eq!((read(&mut rtc, 0x0A, HZ), read(&mut rtc, 0, HZ)), (0x26, 0x06));
}

/// `mc146818_set_time`: SET and a stopped divider, the fields, then back.
#[test]
fn linux_sets_the_time() {
    let mut rtc = rtc();
    write(&mut rtc, 0x0B, 0x82, 10 * HZ);
    write(&mut rtc, 0x0A, 0x76, 10 * HZ);
    for (index, value) in [(9, 0x99), (8, 0x12), (7, 0x31), (4, 0x23), (2, 0x59), (0, 0x58), (0x32, 0x19)] {
        write(&mut rtc, index, value, 10 * HZ);
    }
    assert_eq!(read(&mut rtc, 0, 20 * HZ), 0x58, "time stands while SET is on");
    write(&mut rtc, 0x0B, 0x02, 20 * HZ);
    write(&mut rtc, 0x0A, 0x26, 20 * HZ);
    assert_eq!(time(&mut rtc, 20 * HZ), [0x58, 0x59, 0x23, 6, 0x31, 0x12, 0x99, 0x19]);
    assert_eq!(time(&mut rtc, 22 * HZ), [0x00, 0x00, 0x00, 7, 0x01, 0x01, 0x00, 0x20]);
}

#[test]
fn the_memory_tells_the_ram() {
    let mut rtc = rtc();
    let word = |rtc: &mut Rtc, index| u16::from_le_bytes([index, index + 1].map(|index| read(rtc, index, 0)));
    assert_eq!(word(&mut rtc, 0x15), 640);
    assert_eq!(word(&mut rtc, 0x17), 0xFFFF);
    assert_eq!(word(&mut rtc, 0x34), 176 * 16);
    write(&mut rtc, 0x8F, 0x5A, 0);
    assert_eq!(read(&mut rtc, 0x0F, 0), 0x5A, "bit 7 of the index is not the clock's");
}

#[test]
fn a_periodic_interrupt_stands_until_register_c_is_read() {
    let mut rtc = rtc();
    write(&mut rtc, 0x0B, 0x42, 0);
    assert_eq!(rtc.next_interrupt(), Tsc(976_563)); // 1,024 Hz
    rtc.expire(Tsc(976_562));
    assert!(!rtc.irq_level());
    rtc.expire(Tsc(5_000_000));
    assert!(rtc.irq_level());
    assert_eq!(rtc.next_interrupt(), Tsc::NEVER);
    assert_eq!(read(&mut rtc, 0x0C, 5_000_000), 0xC0);
    assert!(!rtc.irq_level());
    assert_eq!(read(&mut rtc, 0x0C, 5_000_000), 0);
    // Four more were due; they come one after the other, sixteen times as fast.
    for n in 1..=4 {
        let now = rtc.next_interrupt();
        assert!(now.0 <= 5_000_000 + n * 61_036, "{n} {now:?}");
        rtc.expire(now);
        assert_eq!(read(&mut rtc, 0x0C, now.0), 0xC0);
    }
    assert_eq!(rtc.next_interrupt(), Tsc(5_859_375));
}

proptest! {
    #[test]
    fn however_long_its_guest_is_off_cpu_each_period_is_told_once(
        rate in 3_u8..16, gaps in prop::collection::vec((0_u64..20, 0_u64..20), 1..12),
    ) {
        let mut rtc = rtc();
        write(&mut rtc, 0x0A, 0x20 | rate, 0);
        write(&mut rtc, 0x0B, 0x42, 0);
        let period = HZ * (1 << (rate - 1)) / 32_768;
        let (mut now, mut told) = (0, 0);
        for (off, on) in gaps.into_iter().chain([(0, 40)]) {
            now += off * period + 7;
            let until = now + on * period;
            rtc.expire(Tsc(now));
            loop {
                if rtc.irq_level() {
                    prop_assert_eq!(read(&mut rtc, 0x0C, now) & 0xC0, 0xC0);
                    told += 1;
                }
                if rtc.next_interrupt() > Tsc(until) {
                    break;
                }
                now = rtc.next_interrupt().0;
                rtc.expire(Tsc(now));
            }
            now = until;
        }
        prop_assert_eq!(told, rtc.clock(Tsc(now)) >> (rate - 1));
        prop_assert_eq!(rtc.take_lost(), 0);
    }
}

#[test]
fn alarm_and_update_interrupt_at_their_second() {
    let mut rtc = rtc();
    for (index, value) in [(1, 0x00), (3, 0x53), (5, 0xFF)] {
        write(&mut rtc, index, value, 0);
    }
    write(&mut rtc, 0x0B, 0x22, 0);
    assert_eq!(rtc.next_interrupt(), Tsc(55 * HZ));
    rtc.expire(Tsc(55 * HZ));
    assert!(rtc.irq_level());
    assert_eq!(read(&mut rtc, 0x0C, 55 * HZ) & 0xB0, 0xB0);
    write(&mut rtc, 0x0B, 0x12, 55 * HZ);
    assert_eq!(rtc.next_interrupt(), Tsc(56 * HZ));
    write(&mut rtc, 0x0B, 0x92, 55 * HZ);
    assert_eq!((rtc.next_interrupt(), read(&mut rtc, 0x0B, 55 * HZ)), (Tsc::NEVER, 0x82));
}

proptest! {
    #[test]
    fn no_sequence_panics_or_leaves_an_interrupt_behind(
        steps in prop::collection::vec(
            (any::<bool>(), prop_oneof![0_u8..0x10, any::<u8>()], any::<u8>(), prop_oneof![0_u64..2 * HZ, any::<u64>()]),
            0..60,
        ),
        unix_s: u64, khz in 1_u64..1 << 34, memory_mib: u32,
    ) {
        let tsc = Frequency::from_khz(khz).unwrap();
        let mut rtc = Rtc::new(tsc, Tsc(0), unix_s, memory_mib);
        let mut now = Tsc(0);
        for (is_write, index, value, forward) in steps {
            now = Tsc(now.0.saturating_add(forward));
            rtc.select(index);
            if is_write {
                rtc.write(value, now);
            } else {
                let _ = rtc.read(now);
            }
            rtc.expire(now);
            prop_assert!(rtc.next_interrupt() > now || now == Tsc::NEVER);
            prop_assert!(!rtc.irq_level() || rtc.next_interrupt() == Tsc::NEVER);
            rtc.select(REGISTER_C);
            let _ = rtc.read(now);
            prop_assert!(!rtc.irq_level());
        }
    }
}
