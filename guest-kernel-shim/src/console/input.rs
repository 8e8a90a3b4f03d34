//! Noticing that something was typed: an event, or the UART's interrupt through the 8259 and LINT0.

use super::uart;
use crate::arch::lapic::{self, Register};
use crate::arch::port::SafePort;
use crate::interrupt::{self, Handler};
use crate::{event, platform};
use spin::Mutex;

/// Input 4 of the first 8259 is COM1's.
const COM1_INPUT: u8 = 4;
/// Vectors of the first 8259's inputs begin here, those of the second 8 after.
const PIC_VECTORS: u8 = 0x30;
/// LVT: the 8259 says which vector.
const EXTINT: u32 = 0b111 << 8;
/// 8259: the interrupt in service is done.
const END_OF_INTERRUPT: u8 = 0x20;

static HANDLER: Mutex<Option<Handler>> = Mutex::new(None);

/// Calls `handler` when there is something to [`read`](super::read), with interrupts off, on the first processor. The
/// handler reads all there is. Called there, once.
pub fn on_input(handler: Handler) {
    if platform::is_cooperative() {
        event::handle(pv_abi::event::CONSOLE, handler);
        // What was typed before had its event already.
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

/// Both chips, edge-triggered, the second on input 2; everything masked. Intel 8259A data sheet, ICW1 to ICW4.
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
