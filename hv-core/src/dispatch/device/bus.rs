//! The I/O ports of one guest: every device behind its address, and nothing behind the others.
//!
//! All devices here are bytes wide; a wider access is its bytes in ascending order at one moment. A port without a
//! device reads all ones and ignores writes, as on a PC.

#[cfg(test)]
mod tests;

use crate::base::time::{Frequency, Tsc};
use crate::dispatch::device::acpi_pm::{self, AcpiPm, Power};
use crate::dispatch::device::pic::{Pics, Register};
use crate::dispatch::device::uart::Uart;

/// First port of the console.
pub const COM1: u16 = 0x3F8;
const COM1_IRQ: u8 = 4;
/// CONFIG_ADDRESS and CONFIG_DATA: there is no PCI, and the reset register lies in the same bytes.
const PCI_CONFIG: core::ops::RangeInclusive<u16> = 0xCF8..=0xCFF;
const KEYBOARD_STATUS: u16 = 0x64;
/// Reads as an absent controller would, but never as busy: whoever waits to send 0xFE need not wait long.
const KEYBOARD_ABSENT: u8 = 0xFD;
const KEYBOARD_RESET: u8 = 0xFE;
const SYSTEM_CONTROL_A: u16 = 0x92;
const A20_OPEN: u8 = 1 << 1;
const FAST_RESET: u8 = 1 << 0;

/// Width of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Dword,
}

impl Width {
    /// Bytes.
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }
}

/// What follows from a write. Whatever it is, [`PortBus::interrupt_pending`] and [`PortBus::next_timer`] may have changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum PortEffect {
    /// Nothing outside.
    None,
    /// A byte for the console.
    Console(u8),
    /// The guest powers itself off.
    PowerOff,
    /// The guest resets itself.
    Reset,
}

/// What a bus is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The clock of all moments given to this bus.
    pub tsc: Frequency,
    /// Now.
    pub now: Tsc,
}

/// The ports of one guest.
#[derive(Clone, Debug)]
pub struct PortBus {
    com1: Uart,
    pics: Pics,
    pm: AcpiPm,
}

impl PortBus {
    /// Returns the devices of a PC at power-on, as firmware leaves them.
    pub fn new(setup: &Setup) -> Self {
        Self { com1: Uart::new(), pics: Pics::new(), pm: AcpiPm::new(setup.tsc, setup.now) }
    }

    /// Reads `width` bytes at `port`.
    pub fn read(&mut self, port: u16, width: Width, now: Tsc) -> u32 {
        if width == Width::Byte {
            return u32::from(self.read_byte(port, now));
        }
        let mut bytes = [0; 4];
        for (byte, offset) in bytes.iter_mut().zip(0..width.bytes()) {
            *byte = match port.checked_add(offset) {
                Some(port) if !PCI_CONFIG.contains(&port) => self.read_byte(port, now),
                _ => 0xFF,
            };
        }
        u32::from_le_bytes(bytes)
    }

    /// Writes the lower `width` bytes of `value` at `port`.
    pub fn write(&mut self, port: u16, width: Width, value: u32, now: Tsc) -> PortEffect {
        let bytes = value.to_le_bytes();
        if width == Width::Byte {
            return self.write_byte(port, bytes[0], now);
        }
        let mut effect = PortEffect::None;
        for (byte, offset) in bytes.into_iter().zip(0..width.bytes()) {
            let Some(port) = port.checked_add(offset).filter(|port| !PCI_CONFIG.contains(port)) else {
                continue;
            };
            let next = self.write_byte(port, byte, now);
            // No device is so placed that one access could ask for two things.
            if effect == PortEffect::None {
                effect = next;
            }
        }
        effect
    }

    /// Hands a byte of console input in. Returns whether it was taken; one that was not is offered again later.
    pub fn receive(&mut self, byte: u8) -> bool {
        let taken = self.com1.receive(byte);
        self.route_com1();
        taken
    }

    /// Whether [`PortBus::receive`] would take a byte.
    pub fn has_room(&self) -> bool {
        self.com1.has_room()
    }

    /// Whether the 8259A asks for an interrupt; it reaches the bootstrap processor by LINT0.
    #[inline]
    pub const fn interrupt_pending(&self) -> bool {
        self.pics.pending()
    }

    /// The processor takes the 8259A's interrupt. Returns its vector.
    pub fn acknowledge_interrupt(&mut self) -> u8 {
        self.pics.acknowledge()
    }

    fn read_byte(&mut self, port: u16, now: Tsc) -> u8 {
        match port {
            COM1..=0x3FF => {
                let value = self.com1.read(port - COM1);
                self.route_com1();
                value
            }
            acpi_pm::PM1_EVENT..acpi_pm::PM_END => self.pm.read(port, now),
            acpi_pm::RESET_CONTROL => self.pm.read_reset(),
            KEYBOARD_STATUS => KEYBOARD_ABSENT,
            SYSTEM_CONTROL_A => A20_OPEN,
            // The scenario's own ports (marks) belong here.
            _ => Register::at(port).map_or(0xFF, |register| self.pics.read(register)),
        }
    }

    fn write_byte(&mut self, port: u16, value: u8, now: Tsc) -> PortEffect {
        match port {
            COM1..=0x3FF => {
                let left = self.com1.write(port - COM1, value);
                self.route_com1();
                left.map_or(PortEffect::None, PortEffect::Console)
            }
            acpi_pm::PM1_EVENT..acpi_pm::PM_END => of_power(self.pm.write(port, value, now)),
            acpi_pm::RESET_CONTROL => of_power(self.pm.write_reset(value)),
            KEYBOARD_STATUS if value == KEYBOARD_RESET => PortEffect::Reset,
            SYSTEM_CONTROL_A if value & FAST_RESET != 0 => PortEffect::Reset,
            // The scenario's own ports (marks) belong here.
            _ => {
                if let Some(register) = Register::at(port) {
                    self.pics.write(register, value);
                }
                PortEffect::None
            }
        }
    }

    fn route_com1(&mut self) {
        self.pics.set_line(COM1_IRQ, self.com1.irq_level());
    }
}

const fn of_power(power: Option<Power>) -> PortEffect {
    match power {
        None => PortEffect::None,
        Some(Power::Off) => PortEffect::PowerOff,
        Some(Power::Reset) => PortEffect::Reset,
    }
}
