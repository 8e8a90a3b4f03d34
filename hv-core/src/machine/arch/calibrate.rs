//! How fast the time-stamp counter and the APIC timer run, against the 8254's channel 2 (Intel 8254 data sheet; 1.193182 MHz).
#![expect(unsafe_code, reason = "port I/O")]

use super::apic::LocalApic;
use super::time::now;
use crate::base::time::Frequency;
use x86_64::instructions::port::Port;

/// Frequencies of this processor's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The time-stamp counter.
    pub tsc: Frequency,
    /// The APIC timer, undivided.
    pub apic: Frequency,
}

const PIT_HZ: u64 = 1_193_182;
/// About 20 ms.
const COUNT: u16 = 23_864;
/// Reads of port 0x61 before the 8254 counts as missing: seconds on any machine.
const PATIENCE: u32 = 100_000_000;

/// Measures both clocks over about 20 ms; `None` when the 8254 does not count.
pub fn measure(apic: &mut LocalApic) -> Option<Clocks> {
    let mut gate = Port::<u8>::new(0x61);
    let mut command = Port::<u8>::new(0x43);
    let mut channel_2 = Port::<u8>::new(0x42);
    // SAFETY: port 0x61 gates channel 2 and the speaker, 0x42 and 0x43 are the 8254's; nothing else uses channel 2.
    unsafe {
        let value = gate.read() & !0b11;
        gate.write(value);
        command.write(0b1011_0000); // channel 2, both bytes, mode 0
        let [low, high] = COUNT.to_le_bytes();
        channel_2.write(low);
        channel_2.write(high);
        gate.write(value | 1);
    }
    apic.set_timer(u32::MAX);
    let start = now();
    let mut patience = PATIENCE;
    // SAFETY: bit 5 of port 0x61 is channel 2's output; reading changes nothing.
    while unsafe { gate.read() } & 1 << 5 == 0 {
        patience -= 1;
        if patience == 0 {
            return None;
        }
    }
    let end = now();
    let apic_ticks = u64::from(u32::MAX - apic.timer_left());
    apic.set_timer(0);
    let khz = |ticks: u64| Frequency::from_khz((ticks * PIT_HZ / u64::from(COUNT) + 500) / 1000);
    Some(Clocks { tsc: khz(end.since(start).0)?, apic: khz(apic_ticks)? })
}
