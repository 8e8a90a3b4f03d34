//! The I/O ports of one guest: each device at its ports, and no device at the others.
//!
//! All devices here are bytes wide; a wider access is its bytes in ascending order at one moment. A port without a
//! device reads all ones and ignores writes, as on a PC.

#[cfg(test)]
mod tests;

use crate::base::time::{Frequency, Tsc};
use crate::device::acpi_pm::{self, AcpiPm, Power};
use crate::device::channel::{self, ChannelIndex, Channels, Peer, Placement};
use crate::device::ioapic::{IoApic, Level, Message};
use crate::device::pic::Pics;
use crate::device::pit::{self, Pit};
use crate::device::rtc::{self, Rtc};
use crate::device::uart::Uart;
use alloc::vec::Vec;

/// First port of the console.
pub const COM1: u16 = 0x3F8;
const TIMER_IRQ: u8 = 0;
const TIMER_INPUT: u8 = 2;
/// The interrupt line of the console.
pub const COM1_IRQ: u8 = 4;
/// The interrupt line of the clock.
pub const CLOCK_IRQ: u8 = 8;
/// CONFIG_ADDRESS and CONFIG_DATA: the guest has no PCI, and the reset register lies in the same bytes.
const PCI_CONFIG: core::ops::RangeInclusive<u16> = 0xCF8..=0xCFF;
const KEYBOARD_STATUS: u16 = 0x64;
/// Status of the absent keyboard controller: all ones as for no device, but not busy, so that a guest that waits to send 0xFE does not
/// wait long.
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
    /// Returns the width in bytes.
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// Whether an access of this width that begins at port `first` touches `port`.
    #[inline]
    pub const fn reaches(self, first: u16, port: u16) -> bool {
        port.wrapping_sub(first) < self.bytes()
    }
}

/// State of the interrupt that the I/O APIC sent last for the 8254.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tick {
    /// The vCPU took it, or none was sent.
    Taken,
    /// It is pending at the vCPU: another one would merge with it.
    Waits,
}

/// Effect of a write outside the bus. After any write, the controllers' pending interrupts and the next timer moment may have changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum PortEffect {
    /// The write has no effect outside the bus.
    None,
    /// A byte for the console.
    Console(u8),
    /// The guest powers itself off.
    PowerOff,
    /// The guest resets itself.
    Reset,
    /// The guest rings the peer of this channel.
    Doorbell(ChannelIndex),
}

/// Parameters of a new bus.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The clock of all moments given to this bus.
    pub tsc: Frequency,
    /// The present moment.
    pub now: Tsc,
    /// The wall clock now: seconds since 1970, UTC.
    pub unix_s: u64,
    /// RAM from guest-physical 0, in MiB, for the clock's size fields.
    pub memory_mib: u32,
    /// The guest's channels.
    pub channels: Vec<Placement>,
}

/// The ports of one guest.
#[derive(Clone, Debug)]
pub struct PortBus {
    com1: Uart,
    /// Level of COM1's interrupt line as the 8259A last saw it.
    com1_level: bool,
    pics: Pics,
    ioapic: IoApic,
    pit: Pit,
    rtc: Rtc,
    pm: AcpiPm,
    channels: Channels,
    /// The earlier of the two timers' moments.
    next_timer: Tsc,
    /// Last result of [`PortBus::queue_timer`].
    queued: Tsc,
}

impl PortBus {
    /// Returns the devices of a PC at power-on, as firmware leaves them.
    pub fn new(setup: &Setup) -> Self {
        let &Setup { tsc, now, unix_s, memory_mib, ref channels } = setup;
        Self {
            com1: Uart::default(),
            com1_level: false,
            pics: Pics::new(),
            ioapic: IoApic::new(),
            pit: Pit::new(tsc, now),
            rtc: Rtc::new(tsc, now, unix_s, memory_mib),
            pm: AcpiPm::new(tsc, now),
            channels: Channels::new(channels),
            next_timer: Tsc::NEVER,
            queued: Tsc::NEVER,
        }
    }

    /// Reads `width` bytes at `port`. A read too may change [`PortBus::interrupt_pending`] and `next_timer`: when the guest reads
    /// the clock's reason for an interrupt, the clock computes its next interrupt.
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
        // A port that takes a whole access (marks at 0xCF0) must be matched here, before the access is split.
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
            // No two devices are placed so that one access could have two effects.
            if effect == PortEffect::None {
                effect = next;
            }
        }
        effect
    }

    /// Hands in a byte of console input, after which an interrupt may be pending. Returns whether the UART accepted it; the caller offers a
    /// refused byte again later.
    pub fn receive(&mut self, byte: u8) -> bool {
        let taken = self.com1.receive(byte);
        self.route_com1();
        taken
    }

    /// Whether [`PortBus::receive`] would accept a byte.
    pub fn has_room(&self) -> bool {
        self.com1.has_room()
    }

    /// Returns the moment at which the caller must call [`PortBus::expire`]; a past moment if that call is overdue.
    #[inline]
    #[cfg(test)]
    pub const fn next_timer(&self) -> Tsc {
        self.next_timer
    }

    /// Returns the moment of the next [`PortBus::expire`] for a caller that queues it: [`PortBus::wants_earlier_check`] then reports earlier
    /// moments only.
    #[inline]
    pub const fn queue_timer(&mut self) -> Tsc {
        self.queued = self.next_timer;
        self.next_timer
    }

    /// Whether the next timer moment is earlier than the last result of [`PortBus::queue_timer`].
    #[inline]
    pub const fn wants_earlier_check(&self) -> bool {
        self.next_timer.0 < self.queued.0
    }

    /// Advances the timers to `now`; [`PortBus::interrupt_pending`] may change. `tick` is the state of [`PortBus::tick_message`].
    #[inline]
    pub fn expire(&mut self, now: Tsc, tick: Tick) {
        if now >= self.next_timer && self.next_timer != Tsc::NEVER {
            self.expire_timers(now, tick);
        }
    }

    /// Returns the message that the I/O APIC sends for the 8254, if any.
    pub fn tick_message(&self) -> Option<Message> {
        self.ioapic.message_of(TIMER_INPUT)
    }

    /// Returns the ticks lost since the last call: the backlog had no room for them.
    pub const fn take_lost_ticks(&mut self) -> u64 {
        self.pit.backlog.take_lost().saturating_add(self.rtc.take_lost())
    }

    /// Sets whether a guest runs at the other end of a channel.
    pub fn set_peer(&mut self, index: ChannelIndex, peer: Peer) {
        self.channels.set_peer(index, peer);
    }

    /// Disables all doorbells' interrupts, after the guest has ended.
    pub fn hang_up(&mut self) {
        self.channels.hang_up();
    }

    /// Returns the vector that the peer's doorbell raises, if the guest has set one.
    pub fn doorbell_vector(&self, index: ChannelIndex) -> Option<u8> {
        self.channels.vector(index)
    }

    /// Returns the I/O APIC; the caller must collect its messages after the access, as after every access that may interrupt.
    pub const fn ioapic(&mut self) -> &mut IoApic {
        &mut self.ioapic
    }

    /// Whether the 8259A requests an interrupt; the request reaches the bootstrap processor by LINT0.
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
            pit::CHANNEL_0..=pit::CONTROL => self.pit.read(port, now),
            pit::SYSTEM_CONTROL_B => self.pit.read_control_b(now),
            rtc::DATA => {
                self.expire_clock(now);
                let value = self.rtc.read(now);
                self.route_timers();
                value
            }
            acpi_pm::PM1_EVENT..acpi_pm::PM_END | acpi_pm::RESET_CONTROL => self.pm.read(port, now),
            channel::COUNT..channel::END => self.channels.read(port),
            KEYBOARD_STATUS => KEYBOARD_ABSENT,
            SYSTEM_CONTROL_A => A20_OPEN,
            _ => self.pics.read(port).unwrap_or(0xFF),
        }
    }

    fn write_byte(&mut self, port: u16, value: u8, now: Tsc) -> PortEffect {
        match port {
            COM1..=0x3FF => {
                let left = self.com1.write(port - COM1, value);
                self.route_com1();
                return left.map_or(PortEffect::None, PortEffect::Console);
            }
            pit::CHANNEL_0..=pit::CONTROL => {
                if self.pit.write(port, value, now) {
                    self.tick();
                }
                self.route_timers();
            }
            pit::SYSTEM_CONTROL_B => self.pit.write_control_b(value, now),
            rtc::INDEX => self.rtc.select(value),
            rtc::DATA => {
                self.expire_clock(now);
                self.rtc.write(value, now);
                self.route_timers();
            }
            acpi_pm::PM1_EVENT..acpi_pm::PM_END | acpi_pm::RESET_CONTROL => {
                return of_power(self.pm.write(port, value, now));
            }
            channel::COUNT..channel::END => {
                return self.channels.write(port, value).map_or(PortEffect::None, PortEffect::Doorbell);
            }
            KEYBOARD_STATUS if value == KEYBOARD_RESET => return PortEffect::Reset,
            SYSTEM_CONTROL_A if value & FAST_RESET != 0 => return PortEffect::Reset,
            _ => self.pics.write(port, value),
        }
        PortEffect::None
    }

    /// Updates COM1's line at the controllers, only if it changed: console output is the most frequent access.
    #[inline]
    fn route_com1(&mut self) {
        let level = self.com1.irq_level();
        if self.com1.take_pulse() && level && self.com1_level {
            self.set_irq(COM1_IRQ, false);
            self.set_irq(COM1_IRQ, true);
        }
        if level != self.com1_level {
            self.com1_level = level;
            self.set_irq(COM1_IRQ, level);
        }
    }

    #[cold]
    fn expire_timers(&mut self, now: Tsc, tick: Tick) {
        if self.pit.expire(now) {
            let by_pic = self.pics.listens(TIMER_IRQ);
            let by_ioapic = self.tick_message().is_some();
            if !by_pic && !by_ioapic {
                // No guest clock depends on these ticks. An 8259A keeps one request while the input is masked.
                self.pit.backlog.discard();
                self.tick();
            } else if by_pic && !self.pics.waits(TIMER_IRQ) || by_ioapic && tick == Tick::Taken {
                if self.pit.take_tick(now) {
                    self.tick();
                }
            } else {
                self.pit.put_off_ticks();
            }
        }
        self.expire_clock(now);
    }

    /// Makes an edge of the 8254's output at both controllers; the length of the low phase does not matter to them.
    fn tick(&mut self) {
        self.set_irq(TIMER_IRQ, false);
        self.set_irq(TIMER_IRQ, true);
    }

    fn expire_clock(&mut self, now: Tsc) {
        self.rtc.expire(now);
        self.route_timers();
    }

    /// Sets a line at both interrupt controllers.
    fn set_irq(&mut self, irq: u8, level: bool) {
        self.pics.set_input(irq, level);
        // At the I/O APIC the timer is on the input that a PC's 8259A uses for the cascade.
        let input = if irq == TIMER_IRQ { TIMER_INPUT } else { irq };
        self.ioapic.set_level(input, if level { Level::High } else { Level::Low });
    }

    fn route_timers(&mut self) {
        self.set_irq(CLOCK_IRQ, self.rtc.irq_level());
        self.next_timer = self.pit.next_irq0().min(self.rtc.next_interrupt());
    }
}

const fn of_power(power: Option<Power>) -> PortEffect {
    match power {
        None => PortEffect::None,
        Some(Power::Off) => PortEffect::PowerOff,
        Some(Power::Reset) => PortEffect::Reset,
    }
}
