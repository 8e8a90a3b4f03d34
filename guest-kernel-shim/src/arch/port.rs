//! Port I/O, limited to devices whose registers cannot reach memory.
#![expect(unsafe_code, reason = "IN and OUT; the list of ports is closed")]

use x86_64::instructions::port::Port;

/// A port of a device that does no DMA: no access to it changes memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SafePort(u16);

impl SafePort {
    /// First port of the 16550 COM1.
    pub const COM1: Self = Self(0x3f8);
    /// 8254 PIT: counter of channel 2.
    pub const PIT_CHANNEL_2: Self = Self(0x42);
    /// 8254 PIT: mode and latch command.
    pub const PIT_COMMAND: Self = Self(0x43);
    /// Gate of PIT channel 2 (bit 0) and speaker enable (bit 1).
    pub const PIT_GATE: Self = Self(0x61);
    /// Command register of the first 8259.
    pub const PIC_1_COMMAND: Self = Self(0x20);
    /// Command register of the second 8259.
    pub const PIC_2_COMMAND: Self = Self(0xa0);
    /// Interrupt mask of the first 8259.
    pub const PIC_1_MASK: Self = Self(0x21);
    /// Interrupt mask of the second 8259.
    pub const PIC_2_MASK: Self = Self(0xa1);
    /// ACPI PM1a control of QEMU's PC and of Comity.
    pub const ACPI_CONTROL: Self = Self(0x604);
    /// QEMU's isa-debug-exit, if the test added one.
    pub const DEBUG_EXIT: Self = Self(0xf4);
    /// Keyboard controller command register: 0xfe pulses the reset line.
    pub const KEYBOARD_COMMAND: Self = Self(0x64);
    /// Comity, full guests with `mark_port`: the id of a mark; this write completes the mark.
    pub const MARK_ID: Self = Self(0xcf0);
    /// Comity, full guests with `mark_port`: the value of the next mark.
    pub const MARK_VALUE: Self = Self(0xcf4);
    /// Comity, full guests: number of channels.
    pub const CHANNELS: Self = Self(0xc0f0);
    /// Comity, full guests: first register of channel 0; each channel has 16 ports.
    pub const CHANNEL_0: Self = Self(0xc100);

    /// The port `offset` above this one, which must belong to the same device.
    pub(crate) const fn plus(self, offset: u16) -> Self {
        Self(self.0.wrapping_add(offset))
    }

    /// Reads a byte.
    #[inline]
    pub(crate) fn read_u8(self) -> u8 {
        // SAFETY: the closed list of ports names only devices that do no DMA.
        unsafe { Port::new(self.0).read() }
    }

    /// Writes a byte.
    #[inline]
    pub(crate) fn write_u8(self, value: u8) {
        // SAFETY: as in `read_u8`.
        unsafe { Port::new(self.0).write(value) };
    }

    /// Writes 16 bits.
    pub(crate) fn write_u16(self, value: u16) {
        // SAFETY: as in `read_u8`.
        unsafe { Port::new(self.0).write(value) };
    }

    /// Reads 32 bits.
    pub(crate) fn read_u32(self) -> u32 {
        // SAFETY: as in `read_u8`.
        unsafe { Port::new(self.0).read() }
    }

    /// Writes 32 bits.
    #[inline]
    pub(crate) fn write_u32(self, value: u32) {
        // SAFETY: as in `read_u8`.
        unsafe { Port::new(self.0).write(value) };
    }
}
