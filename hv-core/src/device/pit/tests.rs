//! What kernels do to the timer.

use super::*;
use proptest::prelude::*;

/// 12 ticks of the time-stamp counter in about 1 clock.
const TSC: Frequency = Frequency::from_khz(14_318).unwrap();

fn pit() -> Pit {
    Pit::new(TSC, Tsc(0))
}

/// The first moment at which `clocks` clocks have passed since power-on.
fn at(clocks: u64) -> Tsc {
    Tsc(0) + pit().rate.ticks(clocks)
}

fn program(pit: &mut Pit, control: u8, count: u16, now: Tsc) {
    let _ = pit.write(CONTROL, control, now);
    let [low, high] = count.to_le_bytes();
    let port = CHANNEL_0 + u16::from(control >> 6);
    let _ = pit.write(port, low, now);
    let _ = pit.write(port, high, now);
}

/// Whether the guest is told of a rise now.
fn told(pit: &mut Pit, now: Tsc) -> bool {
    pit.expire(now) && pit.take_tick(now)
}

fn count_of(pit: &mut Pit, channel: u16, now: Tsc) -> u16 {
    u16::from_le_bytes([0, 1].map(|_| pit.read(CHANNEL_0 + channel, now)))
}

/// `quick_pit_calibrate` and `pit_expect_msb` of Linux 6.1: the upper byte of channel 2 falls every 256 clocks.
#[test]
fn linux_calibrates_quickly_by_channel_2() {
    let mut pit = pit();
    pit.write_control_b(pit.read_control_b(Tsc(0)) & !2 | 1, Tsc(0));
    program(&mut pit, 0xB0, 0xFFFF, Tsc(0));
    for clock in 1..5_000 {
        let expected = u16::try_from(0xFFFF - clock).unwrap();
        assert_eq!(count_of(&mut pit, 2, at(clock)), expected);
    }
}

/// `pit_calibrate_tsc`: the output of channel 2 rises when its count ends, not before.
#[test]
fn linux_calibrates_slowly_by_the_output_of_channel_2() {
    let mut pit = pit();
    pit.write_control_b(1, at(100));
    program(&mut pit, 0xB0, 11_932, at(100));
    assert_eq!(pit.read_control_b(at(100)) & OUTPUT_2, 0);
    assert_eq!(pit.read_control_b(at(100 + 11_931)) & OUTPUT_2, 0);
    assert_eq!(pit.read_control_b(at(100 + 11_932)) & OUTPUT_2, OUTPUT_2);
    assert_eq!(pit.read_control_b(at(1_000_000)) & OUTPUT_2, OUTPUT_2);
    assert_eq!(pit.next_irq0(), Tsc::NEVER, "channel 2 has no interrupt");
}

#[test]
fn a_second_has_as_many_clocks_as_the_board_says() {
    let tsc = Frequency::from_khz(1_000_000).unwrap();
    let mut pit = Pit::new(tsc, Tsc(0));
    program(&mut pit, 0x34, 0, Tsc(0));
    assert_eq!(pit.clock(Tsc(3_000_000_000)), 3_579_545);
}

/// `pit_set_periodic`: mode 2, LATCH for 250 Hz.
#[test]
fn a_periodic_timer_interrupts_on_its_grid_and_makes_up_for_what_it_missed() {
    let mut pit = pit();
    program(&mut pit, 0x34, 4_773, at(10));
    assert_eq!(pit.next_irq0(), at(10 + 4_773));
    assert!(!told(&mut pit, at(10 + 4_772)));
    assert!(told(&mut pit, at(10 + 4_773)));
    assert!(!told(&mut pit, at(10 + 4_773)));
    let mut now = at(10 + 5 * 4_773 + 7);
    for _ in 2..=5 {
        assert!(told(&mut pit, now));
        assert!(!told(&mut pit, now));
        now = pit.next_irq0();
    }
    assert_eq!(now, at(10 + 6 * 4_773));
}

/// `pit_next_event` (mode 4) and `pit_shutdown` (mode 0, count 65536).
#[test]
fn a_one_shot_interrupts_once() {
    let mut pit = pit();
    program(&mut pit, 0x38, 1_000, at(0));
    assert_eq!(pit.next_irq0(), at(1_001));
    assert!(told(&mut pit, at(2_000)));
    assert_eq!(pit.next_irq0(), Tsc::NEVER);
    program(&mut pit, 0x30, 0, at(3_000));
    assert_eq!(pit.next_irq0(), at(3_000 + 65_536));
    let _ = pit.write(CHANNEL_0, 1, at(4_000));
    assert_eq!(pit.next_irq0(), Tsc::NEVER, "the first byte of a count stops mode 0");
}

/// `i8253_read`: latch, then two reads, while the count goes on.
#[test]
fn a_latched_count_stands_until_it_is_read() {
    let mut pit = pit();
    program(&mut pit, 0x34, 10_000, at(0));
    let _ = pit.write(CONTROL, 0x00, at(300));
    let _ = pit.write(CONTROL, 0x00, at(600));
    assert_eq!(count_of(&mut pit, 0, at(900)), 9_700);
    assert_eq!(count_of(&mut pit, 0, at(900)), 9_100);
    assert_eq!(count_of(&mut pit, 0, at(10_000)), 10_000, "mode 2 starts over without a zero");
}

#[test]
fn read_back_gives_status_then_count() {
    let mut pit = pit();
    let _ = pit.write(CONTROL, 0x36, at(0));
    let _ = pit.write(CONTROL, 0xE2, at(0)); // status of channel 0
    assert_eq!(pit.read(CHANNEL_0, at(0)), 0xF6, "output high, no count yet, both bytes, mode 3");
    program(&mut pit, 0x36, 1_000, at(0));
    let _ = pit.write(CONTROL, 0xC2, at(600)); // count and status
    assert_eq!(pit.read(CHANNEL_0, at(900)), 0x36, "second half: output low");
    assert_eq!(count_of(&mut pit, 0, at(900)), 800);
    assert_eq!(pit.read(CONTROL, at(0)), 0xFF);
}

#[test]
fn single_byte_access_and_bcd_count() {
    let mut pit = pit();
    let _ = pit.write(CONTROL, 0x14, at(0)); // channel 0, low byte, mode 2
    let _ = pit.write(CHANNEL_0, 100, at(0));
    assert_eq!(pit.next_irq0(), at(100));
    assert_eq!(pit.read(CHANNEL_0, at(1)), 99);
    program(&mut pit, 0x35, 0x1234, at(0)); // BCD
    assert_eq!(pit.next_irq0(), at(1_234));
    assert_eq!(count_of(&mut pit, 0, at(35)), 0x1199);
}

#[test]
fn the_gate_holds_mode_0_and_restarts_mode_3() {
    let mut pit = pit();
    pit.write_control_b(1, at(0));
    program(&mut pit, 0xB0, 1_000, at(0));
    pit.write_control_b(0, at(400));
    assert_eq!(count_of(&mut pit, 2, at(5_000)), 600);
    pit.write_control_b(1, at(10_000));
    assert_eq!(pit.read_control_b(at(10_599)) & OUTPUT_2, 0);
    assert_eq!(pit.read_control_b(at(10_600)) & OUTPUT_2, OUTPUT_2);
    program(&mut pit, 0xB6, 1_000, at(0));
    pit.write_control_b(0, at(800));
    assert_eq!(pit.read_control_b(at(800)) & OUTPUT_2, OUTPUT_2);
    pit.write_control_b(1, at(900));
    assert_eq!(count_of(&mut pit, 2, at(900)), 1_000);
}

#[test]
fn the_refresh_bit_toggles() {
    let pit = pit();
    let bits = [0, 17, 18, 35, 36].map(|clock| pit.read_control_b(at(clock)) & REFRESH != 0);
    assert_eq!(bits, [false, false, true, true, false]);
}

proptest! {
    #[test]
    fn no_sequence_panics_or_leaves_an_interrupt_behind(
        steps in prop::collection::vec((0_u8..4, 0_u16..4, any::<u8>(), prop_oneof![0_u64..50_000, any::<u64>()]), 0..80),
        khz in 1_u64..1 << 34,
    ) {
        let mut pit = Pit::new(Frequency::from_khz(khz).unwrap(), Tsc(0));
        let mut now = Tsc(0);
        for (kind, port, value, forward) in steps {
            now = Tsc(now.0.saturating_add(forward));
            match kind {
                0 => { let _ = pit.read(CHANNEL_0 + port, now); }
                1 => pit.write_control_b(value, now),
                2 => prop_assert_eq!(pit.read_control_b(now) & 0xC0, 0),
                _ => {
                    let _ = pit.write(CHANNEL_0 + port, value, now);
                }
            }
            let _ = told(&mut pit, now);
            prop_assert!(pit.next_irq0() > now || now == Tsc::NEVER);
            prop_assert!(!told(&mut pit, now));
        }
    }

    #[test]
    fn an_interrupt_comes_when_the_output_rises(
        mode in 0_u8..6, count in 2_u16..2_000, steps in prop::collection::vec(1_u64..700, 1..20),
    ) {
        let mut pit = pit();
        program(&mut pit, 0x30 | mode << 1, count, at(0));
        let mut clock = 0;
        for step in steps {
            let rose = (clock + 1..=clock + step).any(|c| {
                pit.channels[0].output(c) && !pit.channels[0].output(c - 1)
            });
            clock += step;
            prop_assert_eq!(told(&mut pit, at(clock)), rose, "clock {}", clock);
            pit.backlog.discard();
        }
    }
}
