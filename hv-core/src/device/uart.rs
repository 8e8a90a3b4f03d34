//! A 16550A serial port. National Semiconductor PC16550D data sheet, 1995, section 8.
//!
//! Transmission takes no time: a byte written leaves at once and the transmitter is empty again. Reception is as fast
//! as the owner hands bytes in; the line is idle in between, so a receive time-out is immediate.

#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use bitflags::bitflags;

/// Capacity of the receive FIFO, in bytes.
const FIFO_BYTES: usize = 16;

bitflags! {
    /// Interrupt enable register (§8.6.7).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Enable: u8 {
        const RECEIVED = 1 << 0;
        const TRANSMITTER_EMPTY = 1 << 1;
        const LINE_STATUS = 1 << 2;
        const MODEM_STATUS = 1 << 3;
    }

    /// Line status register (§8.6.3).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct LineStatus: u8 {
        const DATA_READY = 1 << 0;
        const OVERRUN = 1 << 1;
        const HOLDING_EMPTY = 1 << 5;
        const TRANSMITTER_EMPTY = 1 << 6;
    }

    /// Modem control register (§8.6.8).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Control: u8 {
        const DTR = 1 << 0;
        const RTS = 1 << 1;
        const OUT1 = 1 << 2;
        /// On a PC this output enables the card's interrupt line.
        const OUT2 = 1 << 3;
        const LOOP = 1 << 4;
    }

    /// Modem status register (§8.6.9).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Modem: u8 {
        const CTS_CHANGED = 1 << 0;
        const DSR_CHANGED = 1 << 1;
        const RING_ENDED = 1 << 2;
        const DCD_CHANGED = 1 << 3;
        const CTS = 1 << 4;
        const DSR = 1 << 5;
        const RING = 1 << 6;
        const DCD = 1 << 7;
    }
}

const LCR_DIVISOR_ACCESS: u8 = 1 << 7;
const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RECEIVED: u8 = 1 << 1;
const IIR_NONE: u8 = 0b0001;
const IIR_MODEM_STATUS: u8 = 0b0000;
const IIR_TRANSMITTER_EMPTY: u8 = 0b0010;
const IIR_RECEIVED: u8 = 0b0100;
const IIR_LINE_STATUS: u8 = 0b0110;
const IIR_TIME_OUT: u8 = 0b1100;
const IIR_FIFOS: u8 = 0xC0;

/// One serial port; `offset` is 0 … 7 from its base port.
#[derive(Clone, Debug)]
pub struct Uart {
    received: VecDeque<u8>,
    overrun: bool,
    enable: Enable,
    /// The transmitter ran empty, and the guest has not read that reason yet.
    empty_untold: bool,
    /// The interrupt line was low for a moment since the last call of [`Uart::take_pulse`].
    pulsed: bool,
    /// FIFO enable and trigger level, as FCR holds them.
    fifo: u8,
    line_control: u8,
    control: Control,
    modem_changes: Modem,
    scratch: u8,
    divisor: [u8; 2],
}

impl Default for Uart {
    /// Returns a port as firmware leaves it: 9600 baud, interrupt line connected, nothing enabled.
    fn default() -> Self {
        Self {
            received: VecDeque::with_capacity(FIFO_BYTES),
            overrun: false,
            enable: Enable::empty(),
            empty_untold: false,
            pulsed: false,
            fifo: 0,
            line_control: 0,
            control: Control::OUT2,
            modem_changes: Modem::empty(),
            scratch: 0,
            divisor: 12_u16.to_le_bytes(),
        }
    }
}

impl Uart {
    /// Reads a register; the read may remove a received byte, or clear an interrupt's reason.
    pub fn read(&mut self, offset: u16) -> u8 {
        match offset & 7 {
            0 if self.divisor_shown() => self.divisor[0],
            1 if self.divisor_shown() => self.divisor[1],
            0 => self.received.pop_front().unwrap_or(0),
            1 => self.enable.bits(),
            2 => self.tell_reason(),
            3 => self.line_control,
            4 => self.control.bits(),
            5 => {
                let line = self.line();
                self.overrun = false;
                line.bits()
            }
            6 => {
                let modem = self.modem_lines() | self.modem_changes;
                self.modem_changes = Modem::empty();
                modem.bits()
            }
            _ => self.scratch,
        }
    }

    /// Writes a register. Returns the byte that leaves the port, if one does.
    pub fn write(&mut self, offset: u16, value: u8) -> Option<u8> {
        match offset & 7 {
            0 if self.divisor_shown() => self.divisor[0] = value,
            1 if self.divisor_shown() => self.divisor[1] = value,
            0 => return self.transmit(value),
            1 => self.set_enable(Enable::from_bits_truncate(value)),
            2 => self.set_fifo(value),
            3 => self.line_control = value,
            4 => self.set_control(Control::from_bits_truncate(value)),
            5 | 6 => {} // factory test and read-only
            _ => self.scratch = value,
        }
        None
    }

    /// Hands in a received byte. Returns whether the UART accepted it; the caller offers a refused byte again later.
    pub fn receive(&mut self, byte: u8) -> bool {
        let taken = self.has_room();
        if taken {
            self.received.push_back(byte);
        }
        taken
    }

    /// Whether [`Uart::receive`] would accept a byte.
    pub fn has_room(&self) -> bool {
        !self.control.contains(Control::LOOP) && self.received.len() < self.capacity()
    }

    /// The level of the interrupt line.
    #[inline]
    pub fn irq_level(&self) -> bool {
        !self.enable.is_empty()
            && self.control.contains(Control::OUT2)
            && !self.control.contains(Control::LOOP)
            && self.reason() != IIR_NONE
    }

    /// Whether the interrupt line was low for a moment since the last call: [`Uart::irq_level`] does not show that.
    #[inline]
    pub const fn take_pulse(&mut self) -> bool {
        core::mem::replace(&mut self.pulsed, false)
    }

    const fn divisor_shown(&self) -> bool {
        self.line_control & LCR_DIVISOR_ACCESS != 0
    }

    const fn capacity(&self) -> usize {
        if self.fifo & FCR_ENABLE != 0 { FIFO_BYTES } else { 1 }
    }

    /// Returns the number of received bytes that raise an interrupt (§8.6.4).
    const fn trigger(&self) -> usize {
        match self.fifo >> 6 {
            _ if self.fifo & FCR_ENABLE == 0 => 1,
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        }
    }

    fn line(&self) -> LineStatus {
        let mut line = LineStatus::HOLDING_EMPTY | LineStatus::TRANSMITTER_EMPTY;
        line.set(LineStatus::DATA_READY, !self.received.is_empty());
        line.set(LineStatus::OVERRUN, self.overrun);
        line
    }

    /// Returns the modem inputs: a terminal that is always ready, or in loop-back the port's own outputs (§8.6.8 bit 4).
    fn modem_lines(&self) -> Modem {
        if !self.control.contains(Control::LOOP) {
            return Modem::CTS | Modem::DSR | Modem::DCD;
        }
        let mut modem = Modem::empty();
        modem.set(Modem::CTS, self.control.contains(Control::RTS));
        modem.set(Modem::DSR, self.control.contains(Control::DTR));
        modem.set(Modem::RING, self.control.contains(Control::OUT1));
        modem.set(Modem::DCD, self.control.contains(Control::OUT2));
        modem
    }

    /// Returns the pending reason of the highest priority, in IIR's code (§8.6.6).
    fn reason(&self) -> u8 {
        if self.enable.contains(Enable::LINE_STATUS) && self.overrun {
            IIR_LINE_STATUS
        } else if self.enable.contains(Enable::RECEIVED) && self.received.len() >= self.trigger() {
            IIR_RECEIVED
        } else if self.enable.contains(Enable::RECEIVED) && !self.received.is_empty() {
            IIR_TIME_OUT
        } else if self.enable.contains(Enable::TRANSMITTER_EMPTY) && self.empty_untold {
            IIR_TRANSMITTER_EMPTY
        } else if self.enable.contains(Enable::MODEM_STATUS) && !self.modem_changes.is_empty() {
            IIR_MODEM_STATUS
        } else {
            IIR_NONE
        }
    }

    /// Returns the reason for a read of IIR, which ends a transmitter interrupt if that is the reason.
    fn tell_reason(&mut self) -> u8 {
        let reason = self.reason();
        if reason == IIR_TRANSMITTER_EMPTY {
            self.empty_untold = false;
        }
        let fifos = if self.fifo & FCR_ENABLE != 0 { IIR_FIFOS } else { 0 };
        reason | fifos
    }

    /// A byte that is written ends a transmitter interrupt (§8.6.6, table 4), and the transmitter, empty again, raises the next: an edge,
    /// where no other reason holds the line up.
    fn transmit(&mut self, byte: u8) -> Option<u8> {
        self.pulsed |= self.empty_untold && self.reason() == IIR_TRANSMITTER_EMPTY;
        self.empty_untold = true;
        if !self.control.contains(Control::LOOP) {
            return Some(byte);
        }
        if self.received.len() < self.capacity() {
            self.received.push_back(byte);
        } else {
            self.overrun = true;
        }
        None
    }

    /// Enabling the transmitter interrupt while the transmitter is empty raises it: drivers start by that.
    fn set_enable(&mut self, enable: Enable) {
        if enable.contains(Enable::TRANSMITTER_EMPTY) && !self.enable.contains(Enable::TRANSMITTER_EMPTY) {
            self.empty_untold = true;
        }
        self.enable = enable;
    }

    /// Turning the FIFOs on or off empties them; without the enable bit the others are not looked at (§8.6.4).
    fn set_fifo(&mut self, value: u8) {
        let enabled = value & FCR_ENABLE;
        if enabled != self.fifo & FCR_ENABLE || enabled != 0 && value & FCR_CLEAR_RECEIVED != 0 {
            self.received.clear();
        }
        self.fifo = if enabled != 0 { value & (0xC0 | FCR_ENABLE) } else { 0 };
    }

    fn set_control(&mut self, control: Control) {
        let before = self.modem_lines();
        self.control = control;
        // Each line lies four bits above its change; a ring counts when it ends.
        let changed = (before ^ self.modem_lines()) & (before | !Modem::RING);
        self.modem_changes |= Modem::from_bits_truncate(changed.bits() >> 4);
    }
}
