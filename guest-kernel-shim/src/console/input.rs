//! Notification of console input: an event, or the UART's interrupt through the 8259 and LINT0.

use super::uart;
use crate::arch::lapic::{self, Register};
use crate::arch::port::SafePort;
use crate::interrupt::{self, Handler};
use crate::{event, platform};
use spin::Mutex;

/// COM1's input on the first 8259.
const COM1_INPUT: u8 = 4;
/// First vector of the first 8259; the second has the 8 vectors behind.
const PIC_VECTORS: u8 = 0x30;
/// LVT delivery mode: the 8259 supplies the vector.
const EXTINT: u32 = 0b111 << 8;
/// 8259 command: end of interrupt.
const END_OF_INTERRUPT: u8 = 0x20;

static HANDLER: Mutex<Option<Handler>> = Mutex::new(None);

/// Calls `handler` when there is input to [`read`](super::read), with interrupts off, on the first processor. The
/// handler must read all of it. The first processor calls this once.
pub fn on_input(handler: Handler) {
    if platform::is_cooperative() {
        event::handle(pv_abi::event::CONSOLE, handler);
        // Earlier input has already raised its event.
        interrupt::without(handler);
        return;
    }
    interrupt::without(|| *HANDLER.lock() = Some(handler));
    interrupt::handle_legacy(PIC_VECTORS + COM1_INPUT, received);
    initialise_pics();
    lapic::write(Register::LVT_LINT0, EXTINT);
    uart::enable_receive_interrupt();
    SafePort::PIC_1_MASK.write_u8(!(1 << COM1_INPUT));
}

fn received() {
    let handler = *HANDLER.lock();
    if let Some(handler) = handler {
        handler();
    }
    SafePort::PIC_1_COMMAND.write_u8(END_OF_INTERRUPT);
}

/// Initialises both 8259s: edge-triggered, the second on input 2 of the first, all inputs masked. Intel 8259A data
/// sheet, ICW1 to ICW4.
fn initialise_pics() {
    for (command, data, vectors, cascade) in [
        (SafePort::PIC_1_COMMAND, SafePort::PIC_1_MASK, PIC_VECTORS, 1 << 2),
        (SafePort::PIC_2_COMMAND, SafePort::PIC_2_MASK, PIC_VECTORS + 8, 2),
    ] {
        command.write_u8(0x11);
        for byte in [vectors, cascade, 0x01, 0xff] {
            data.write_u8(byte);
        }
    }
}
