//! The machine's own 16550 UARTs: COM1 for people, COM2 for programs.
#![expect(unsafe_code, reason = "port I/O")]

use x86_64::instructions::port::Port;

/// A 16550 UART, driven by polling.
pub struct Serial {
    data: Port<u8>,
    interrupt_enable: Port<u8>,
    fifo_control: Port<u8>,
    line_control: Port<u8>,
    modem_control: Port<u8>,
    line_status: Port<u8>,
}

/// Whether the driver has bytes waiting for room in the transmit FIFO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transmit {
    /// At least one byte is waiting.
    Waits,
    /// No byte is waiting.
    Idle,
}

/// Capacity of the transmit FIFO, in bytes.
const FIFO_BYTES: usize = 16;
const DATA_READY: u8 = 1 << 0;
/// Line status bits: the transmit FIFO is empty (bit 5); the last byte has also left the shift register (bit 6).
const TRANSMIT_EMPTY: u8 = 1 << 5;
const TRANSMITTED: u8 = 1 << 6;
/// Polls of the line status before output is dropped: an absent UART must not hang the hypervisor.
const PATIENCE: u32 = 1_000_000;

impl Serial {
    /// I/O base of COM1.
    pub const COM1: u16 = 0x3f8;
    /// I/O base of COM2.
    pub const COM2: u16 = 0x2f8;

    /// Sets up the UART at `base`; `None` if the scratch register there does not keep its value, so no UART is present.
    ///
    /// # Safety
    ///
    /// As for [`new`](Self::new).
    pub unsafe fn find(base: u16) -> Option<Self> {
        let mut scratch = Port::<u8>::new(base + 7);
        let keeps = |value: u8| {
            // SAFETY: this is a UART's scratch register, which has no effect, or a port without a device.
            unsafe {
                scratch.write(value);
                scratch.read() == value
            }
        };
        // SAFETY: by contract.
        [0x55, 0xaa].into_iter().all(keeps).then(|| unsafe { Self::new(base) })
    }

    /// Sets the UART up for 115,200 baud, 8N1, FIFOs on, interrupts off.
    ///
    /// # Safety
    ///
    /// Nothing else drives the UART at `base`.
    pub unsafe fn new(base: u16) -> Self {
        let mut uart = Self {
            data: Port::new(base),
            interrupt_enable: Port::new(base + 1),
            fifo_control: Port::new(base + 2),
            line_control: Port::new(base + 3),
            modem_control: Port::new(base + 4),
            line_status: Port::new(base + 5),
        };
        // SAFETY: these are a 16550's registers, ours by contract; writing them touches no memory.
        unsafe {
            uart.line_control.write(0x80); // DLAB
            uart.data.write(1);
            uart.interrupt_enable.write(0);
            uart.line_control.write(0x03);
            uart.fifo_control.write(0x07);
            uart.modem_control.write(0x0b); // DTR, RTS, OUT2
            uart.interrupt_enable.write(0);
        }
        uart
    }

    /// Enables the interrupt for received bytes (IRQ 4 for COM1), and, if `wants` is `Waits`, the one for an empty transmit FIFO.
    pub fn interrupt_on_receive_and(&mut self, wants: Transmit) {
        let transmit = if wants == Transmit::Waits { 0x02 } else { 0 };
        // SAFETY: register 1 of our UART.
        unsafe { self.interrupt_enable.write(0x01 | transmit) };
    }

    /// Writes bytes to the transmit FIFO as long as it accepts them without waiting; returns the number of bytes written.
    pub fn offer(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        for chunk in bytes.chunks(FIFO_BYTES) {
            // SAFETY: register 5 of our UART; reading it has no effect on memory.
            if unsafe { self.line_status.read() } & TRANSMIT_EMPTY == 0 {
                break;
            }
            for byte in chunk {
                // SAFETY: register 0 of our UART; the empty FIFO has room for `FIFO_BYTES` bytes.
                unsafe { self.data.write(*byte) };
            }
            taken += chunk.len();
        }
        taken
    }

    /// Writes all bytes, waiting for the FIFO; drops the rest if the FIFO does not drain within `PATIENCE` polls.
    pub fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(FIFO_BYTES) {
            if !self.wait_for(TRANSMIT_EMPTY) {
                return;
            }
            for byte in chunk {
                // SAFETY: register 0 of our UART; the FIFO has room.
                unsafe { self.data.write(*byte) };
            }
        }
    }

    /// Waits until the last byte has left the UART, for at most `PATIENCE` polls.
    pub fn finish(&mut self) {
        self.wait_for(TRANSMITTED);
    }

    fn wait_for(&mut self, bit: u8) -> bool {
        // SAFETY: register 5 of our UART; reading it has no effect on memory.
        (0..PATIENCE).any(|_| unsafe { self.line_status.read() } & bit != 0)
    }

    /// Returns the next received byte, or `None` if the receive FIFO is empty.
    pub fn read(&mut self) -> Option<u8> {
        // SAFETY: registers 5 and 0 of our UART.
        unsafe { (self.line_status.read() & DATA_READY != 0).then(|| self.data.read()) }
    }
}
