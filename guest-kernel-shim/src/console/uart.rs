//! A polled 16550 at COM1. With its FIFO on, an empty transmitter takes 16 bytes, so one status read serves 16 bytes.

use crate::arch::port::SafePort;

const FIFO_BYTES: usize = 16;
/// How often the driver polls the status before it writes all the same: a UART that never empties is not there.
const MAX_LOOKS: u32 = 1 << 20;

/// Registers, as offsets from the first port.
const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;

/// Line status: a byte was received.
const RECEIVED: u8 = 1 << 0;
/// Line status: the transmitter is empty and takes a whole FIFO.
const TRANSMITTER_EMPTY: u8 = 1 << 5;

/// Initialises the UART: 115,200 baud, 8N1, FIFOs on, no interrupts.
pub(super) fn start() {
    for (register, value) in [
        (INTERRUPT_ENABLE, 0x00),
        (LINE_CONTROL, 0x80),
        (DATA, 1),
        (INTERRUPT_ENABLE, 0),
        (LINE_CONTROL, 0x03),
        (FIFO_CONTROL, 0xc7),
        (MODEM_CONTROL, 0x0b),
    ] {
        SafePort::COM1.plus(register).write_u8(value);
    }
}

/// Enables the receive interrupt, which a single byte in the FIFO also raises.
pub(super) fn enable_receive_interrupt() {
    SafePort::COM1.plus(INTERRUPT_ENABLE).write_u8(1);
}

pub(super) fn write(bytes: &[u8]) {
    for part in bytes.chunks(FIFO_BYTES) {
        let mut looks = 0;
        while SafePort::COM1.plus(LINE_STATUS).read_u8() & TRANSMITTER_EMPTY == 0 && looks < MAX_LOOKS {
            looks += 1;
        }
        for &byte in part {
            SafePort::COM1.write_u8(byte);
        }
    }
}

/// Reads received bytes; returns how many.
pub(super) fn read(bytes: &mut [u8]) -> usize {
    let mut count = 0;
    for slot in bytes {
        if SafePort::COM1.plus(LINE_STATUS).read_u8() & RECEIVED == 0 {
            break;
        }
        *slot = SafePort::COM1.read_u8();
        count += 1;
    }
    count
}
