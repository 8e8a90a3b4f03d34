//! Power management of a PC: the ACPI PM1a block, the PM timer, and the ways to reset.
//!
//! ACPI specification 6.5, §4.8.3, at the ports QEMU's PC uses; the reset control register at 0xCF9 and port 0x92 of
//! the Intel PCH. No event is ever raised, so the system control interrupt is not connected.

use crate::base::time::{Frequency, Tsc};
use crate::device::rate::Rate;

/// PM1a event block: status, then enable, 16 bits each.
pub const PM1_EVENT: u16 = 0x600;
/// PM1a control, 16 bits.
pub const PM1_CONTROL: u16 = 0x604;
/// The PM timer, 24 bits.
pub const PM_TIMER: u16 = 0x608;
/// First port after the block.
pub const PM_END: u16 = 0x60C;
/// Reset control.
pub const RESET_CONTROL: u16 = 0xCF9;
/// Counts of the PM timer in a second (§4.8.3.3).
pub const PM_TIMER_HZ: u32 = 3_579_545;

const TIMER_BITS: u64 = (1 << 24) - 1;
/// SLP_EN in the upper byte of PM1 control.
const SLEEP_ENABLE: u8 = 1 << 5;
/// SLP_TYP in the upper byte; type 0 is S5, as the DSDT of QEMU's PC says.
const SLEEP_TYPE: u8 = 7 << 2;
const RESET_CPU: u8 = 1 << 2;

/// The guest's request to its machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Power {
    /// The guest powers its machine off.
    Off,
    /// The guest resets its machine.
    Reset,
}

/// The registers.
#[derive(Clone, Debug)]
pub struct AcpiPm {
    rate: Rate,
    origin: Tsc,
    /// The count's upper bits at the last clear of TMR_STS, which is set once bit 23 has changed since.
    carry_seen: u64,
    enable: [u8; 2],
    control: [u8; 2],
    reset_control: u8,
}

impl AcpiPm {
    /// Returns the block with its timer at 0.
    pub const fn new(tsc: Frequency, now: Tsc) -> Self {
        Self {
            rate: Rate::of_hz_per(tsc, PM_TIMER_HZ, 1),
            origin: now,
            carry_seen: 0,
            enable: [0; 2],
            // SCI_EN is always set: this machine has no legacy mode.
            control: [1, 0],
            reset_control: 0,
        }
    }

    /// Reads a byte of PM1 or of the timer, `port` in [`PM1_EVENT`] … [`PM_END`].
    pub fn read(&self, port: u16, now: Tsc) -> u8 {
        let count = self.rate.clocks(now.since(self.origin));
        match port {
            0x600 => u8::from(count >> 23 != self.carry_seen),
            0x602 | 0x603 => self.enable[usize::from(port & 1)],
            0x604 | 0x605 => self.control[usize::from(port & 1)],
            PM_TIMER..PM_END => (count & TIMER_BITS).to_le_bytes()[usize::from(port - PM_TIMER) & 3],
            RESET_CONTROL => self.reset_control,
            _ => 0,
        }
    }

    /// Writes a byte of PM1; the timer cannot be written.
    pub fn write(&mut self, port: u16, value: u8, now: Tsc) -> Option<Power> {
        match port {
            0x600 if value & 1 != 0 => self.carry_seen = self.rate.clocks(now.since(self.origin)) >> 23,
            0x602 | 0x603 => self.enable[usize::from(port & 1)] = value,
            0x604 => self.control[0] = value | 1,
            0x605 => {
                self.control[1] = value & SLEEP_TYPE;
                if value & (SLEEP_ENABLE | SLEEP_TYPE) == SLEEP_ENABLE {
                    return Some(Power::Off);
                }
            }
            // Bit 2 starts the reset; bit 1 selects its kind.
            RESET_CONTROL => {
                self.reset_control = value & !RESET_CPU;
                return (value & RESET_CPU != 0).then_some(Power::Reset);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TSC: Frequency = Frequency::from_khz(1_000_000).unwrap();

    fn timer(pm: &AcpiPm, now: u64) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|n| pm.read(PM_TIMER + n, Tsc(now))))
    }

    #[test]
    fn the_timer_counts_its_rate_in_24_bits() {
        let pm = AcpiPm::new(TSC, Tsc(500));
        assert_eq!(timer(&pm, 500), 0);
        assert_eq!(timer(&pm, 1_000_000_500), 3_579_545);
        assert_eq!(timer(&pm, 5_000_000_500), 5 * 3_579_545 - (1 << 24));
    }

    #[test]
    fn the_timer_status_tells_a_carry_until_it_is_cleared() {
        let mut pm = AcpiPm::new(TSC, Tsc(0));
        let carry = 2_343_485_000;
        assert_eq!(pm.read(0x600, Tsc(carry - 1_000_000)), 0);
        assert_eq!(pm.read(0x600, Tsc(carry)), 1);
        assert_eq!(pm.write(0x600, 1, Tsc(carry)), None);
        assert_eq!(pm.read(0x600, Tsc(carry)), 0);
    }

    #[test]
    fn only_sleep_type_0_with_sleep_enable_powers_off() {
        for value in 0..=u8::MAX {
            let mut pm = AcpiPm::new(TSC, Tsc(0));
            let expected = (value & 0x3C == 0x20).then_some(Power::Off);
            assert_eq!(pm.write(0x605, value, Tsc(0)), expected, "{value:#x}");
            assert_eq!(pm.write(0x604, value, Tsc(0)), None, "{value:#x}");
        }
    }

    #[test]
    fn reset_control_needs_bit_2() {
        let mut pm = AcpiPm::new(TSC, Tsc(0));
        assert_eq!(pm.write(RESET_CONTROL, 0x02, Tsc(0)), None);
        assert_eq!(pm.read(RESET_CONTROL, Tsc(0)), 0x02);
        assert_eq!(pm.write(RESET_CONTROL, 0x06, Tsc(0)), Some(Power::Reset));
        assert_eq!(pm.write(RESET_CONTROL, 0x0E, Tsc(0)), Some(Power::Reset));
    }
}
