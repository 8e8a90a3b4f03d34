//! What drivers do to a serial port.

use super::*;
use proptest::prelude::*;

/// A step of a driver: a write, or a read with what it must see.
enum Step {
    Write(u16, u8),
    Read(u16, u8),
}
use Step::{Read, Write};

#[track_caller]
fn run(uart: &mut Uart, steps: &[Step]) {
    for (n, step) in steps.iter().enumerate() {
        match *step {
            Write(offset, value) => {
                let _ = uart.write(offset, value);
            }
            Read(offset, value) => assert_eq!(uart.read(offset), value, "step {n}, register {offset}"),
        }
    }
}

/// `autoconfig` and `autoconfig_16550a` of Linux 6.1's 8250_port.c: it must find a 16550A and nothing later.
#[test]
fn linux_probes_a_16550a() {
    let mut uart = Uart::default();
    run(
        &mut uart,
        &[
            // Is there a port: IER keeps four bits.
            Read(1, 0),
            Write(1, 0),
            Read(1, 0),
            Write(1, 0x0F),
            Read(1, 0x0F),
            Write(1, 0),
            // Loop-back: RTS and OUT2 come back as CTS and DCD.
            Read(4, 0x08),
            Write(4, 0x1A),
        ],
    );
    assert_eq!(uart.read(6) & 0xF0, 0x90);
    run(
        &mut uart,
        &[
            Write(4, 0x08),
            Write(3, 0xBF), // LCR_CONF_MODE_B: no EFR here
            Write(2, 0),
            Write(3, 0),
            Write(2, 1),
            Read(2, 0xC1),
            Write(3, 0x80), // no EFR in mode A either
            Read(2, 0xC1),
            Write(3, 0),
            Write(2, 0x21), // no 64-byte FIFO of a 16750
            Read(2, 0xC1),
            Write(3, 0x80),
            Write(2, 0x21),
            Read(2, 0xC1),
            Write(3, 0),
            Write(1, 0x40), // no UUE of an XScale
            Read(1, 0),
            Write(7, 0xA5),
            Read(7, 0xA5),
        ],
    );
}

/// `serial8250_do_startup`: the THRE interrupt must come each time it is enabled, or Linux falls back to a timer.
#[test]
fn linux_finds_no_transmitter_bug() {
    let mut uart = Uart::default();
    run(
        &mut uart,
        &[Write(2, 1), Write(2, 7), Write(2, 0), Read(5, 0x60), Read(0, 0), Read(2, 1), Read(6, 0xB0)],
    );
    run(&mut uart, &[Write(3, 3), Write(4, 0x0B)]);
    for _ in 0..2 {
        run(&mut uart, &[Write(1, 2)]);
        assert!(uart.irq_level());
        run(&mut uart, &[Read(2, 2), Read(2, 1), Write(1, 0)]);
        assert!(!uart.irq_level());
    }
}

#[test]
fn a_written_byte_leaves_and_the_transmitter_asks_for_the_next() {
    let mut uart = Uart::default();
    let _ = uart.write(1, 2);
    assert_eq!(uart.read(2), 2);
    assert!(!uart.irq_level());
    assert_eq!(uart.write(0, b'x'), Some(b'x'));
    assert!(uart.irq_level());
    assert_eq!(uart.read(2), 2);
    assert!(!uart.irq_level());
    assert_eq!(uart.read(5), 0x60);
}

#[test]
fn a_byte_written_to_a_transmitter_that_has_not_told_makes_an_edge_unless_the_line_is_up_for_more() {
    let mut uart = Uart::default();
    run(&mut uart, &[Write(1, 3)]);
    for _ in 0..3 {
        assert!(uart.write(0, b'x').is_some());
        assert!(uart.irq_level() && uart.take_pulse() && !uart.take_pulse());
    }
    assert!(uart.receive(b'a'));
    assert!(uart.write(0, b'x').is_some());
    assert!(uart.irq_level() && !uart.take_pulse(), "the receiver holds the line up");
}

#[test]
fn telling_of_a_received_byte_keeps_the_transmitters_interrupt() {
    let mut uart = Uart::default();
    run(&mut uart, &[Write(1, 3)]);
    assert!(uart.receive(b'a'));
    run(&mut uart, &[Read(2, 4), Read(0, b'a'), Read(2, 2), Read(2, 1)]);
}

#[test]
fn the_divisor_hides_data_and_interrupt_enable() {
    let mut uart = Uart::default();
    run(
        &mut uart,
        &[Write(3, 0x83), Read(0, 12), Read(1, 0), Write(0, 1), Write(1, 0), Write(3, 3), Read(1, 0)],
    );
    run(&mut uart, &[Write(3, 0x83), Read(0, 1), Write(3, 3)]);
    assert_eq!(uart.write(0, 7), Some(7));
}

#[test]
fn received_bytes_interrupt_at_the_trigger_and_by_time_out_below_it() {
    let mut uart = Uart::default();
    run(&mut uart, &[Write(2, 0x41), Write(1, 1)]);
    assert!(uart.receive(b'a'));
    assert!(uart.irq_level());
    assert_eq!(uart.read(2), 0xCC);
    for byte in b"bcd" {
        assert!(uart.receive(*byte));
    }
    run(
        &mut uart,
        &[Read(2, 0xC4), Read(5, 0x61), Read(0, b'a'), Read(0, b'b'), Read(0, b'c'), Read(0, b'd')],
    );
    run(&mut uart, &[Read(5, 0x60), Read(2, 0xC1)]);
    assert!(!uart.irq_level());
}

#[test]
fn a_full_receiver_refuses_and_loses_nothing() {
    let mut uart = Uart::default();
    assert!(uart.receive(1));
    assert!(!uart.has_room() && !uart.receive(2), "one byte without FIFOs");
    let _ = uart.write(2, 1);
    for byte in 0..16 {
        assert!(uart.receive(byte));
    }
    assert!(!uart.receive(16));
    for byte in 0..16 {
        assert_eq!(uart.read(0), byte);
    }
    assert_eq!(uart.read(5), 0x60);
}

#[test]
fn loop_back_returns_bytes_and_overruns() {
    let mut uart = Uart::default();
    run(&mut uart, &[Write(1, 4), Write(4, 0x1E)]);
    assert!(!uart.receive(9), "the line is disconnected");
    assert_eq!(uart.write(0, 0xAE), None);
    run(&mut uart, &[Read(5, 0x61), Write(0, 0xAF), Read(2, 6), Read(5, 0x63), Read(5, 0x61), Read(0, 0xAE)]);
    assert!(!uart.irq_level(), "OUT2 is inactive in loop-back");
}

#[test]
fn modem_changes_are_told_once() {
    let mut uart = Uart::default();
    run(&mut uart, &[Write(1, 8), Write(4, 0x1F), Write(4, 0x08)]);
    assert!(uart.irq_level());
    run(&mut uart, &[Read(2, 0), Read(6, 0xB4), Read(6, 0xB0), Read(2, 1)]);
    assert!(!uart.irq_level());
}

#[test]
fn out2_holds_the_interrupt_back() {
    let mut uart = Uart::default();
    run(&mut uart, &[Write(1, 2), Write(4, 0)]);
    assert!(!uart.irq_level());
    let _ = uart.write(4, 8);
    assert!(uart.irq_level());
}

proptest! {
    #[test]
    fn the_line_is_up_exactly_when_a_reason_is_told(
        steps in prop::collection::vec((0_u8..3, 0_u16..9, any::<u8>()), 0..120),
    ) {
        let mut uart = Uart::default();
        for (kind, offset, value) in steps {
            match kind {
                0 => { let _ = uart.read(offset); }
                1 => {
                    let left = uart.write(offset, value);
                    prop_assert!(left.is_none_or(|byte| byte == value && offset & 7 == 0));
                }
                _ => {
                    let room = uart.has_room();
                    prop_assert_eq!(uart.receive(value), room);
                }
            }
            prop_assert!(uart.received.len() <= FIFO_BYTES);
            let up = uart.irq_level();
            let control = uart.read(4);
            prop_assert_eq!(up, uart.clone().read(2) & 1 == 0 && control & 0x18 == 0x08);
        }
    }
}
