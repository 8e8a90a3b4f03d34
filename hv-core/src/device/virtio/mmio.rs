//! The registers of a virtio device in memory, version 2 (§4.2.2), and what all devices do behind them.

mod register;
#[cfg(test)]
mod tests;

use super::io::{Budget, Io};
use super::queue::{Malformed, Notify, Queue, RingFeatures, Setup};
use super::{CONFIG_BYTES, Device, DeviceHost, Memory, ServeProgress};
use crate::base::addr::low;
use crate::base::hardware::GuestRam;
use alloc::boxed::Box;
use bitflags::bitflags;

/// Bytes of addresses that a device takes.
pub const WINDOW_BYTES: u64 = 0x200;
/// First byte of the configuration space in them.
pub const CONFIG: u64 = 0x100;

/// "virt".
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// Ours: "CMTY".
const VENDOR: u32 = 0x5954_4D43;
/// VIRTIO_F_VERSION_1 (§6): not a legacy device.
const VERSION_1: u64 = 1 << 32;

bitflags! {
    /// The device status field (§2.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Status: u32 {
        /// The driver has seen the device.
        const ACKNOWLEDGE = 1 << 0;
        /// It knows what to do with it.
        const DRIVER = 1 << 1;
        /// It has set everything up.
        const DRIVER_OK = 1 << 2;
        /// Both agreed on features.
        const FEATURES_OK = 1 << 3;
        /// The device does nothing more until a reset.
        const NEEDS_RESET = 1 << 6;
        /// The driver has given up.
        const FAILED = 1 << 7;
    }

    /// Why the interrupt line is up (§4.2.2, InterruptStatus).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    struct Interrupt: u32 {
        const USED_BUFFER = 1 << 0;
        const CONFIG_CHANGE = 1 << 1;
    }
}

/// What follows from a write. Whatever it is, [`Transport::line`] may have changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Effect {
    /// Nothing more.
    None,
    /// [`Transport::serve`] has something to do.
    Serve,
}

/// A device with its registers and queues.
#[derive(Debug)]
pub struct Transport {
    device: Device,
    registers: Registers,
    setups: Box<[Setup]>,
    queues: Box<[Queue]>,
    generation: u32,
}

/// What a reset makes zero.
#[derive(Debug, Default)]
struct Registers {
    status: Status,
    device_features_half: u32,
    driver_features_half: u32,
    driver_features: u64,
    selected: u32,
    /// Bit n: queue n may have something.
    noted: u32,
    interrupt: Interrupt,
}

impl Transport {
    /// The device as it is after a reset.
    pub fn new(device: Device) -> Self {
        let (_, queues) = device.kind();
        Self {
            registers: Registers::default(),
            setups: (0..queues).map(|_| Setup::default()).collect(),
            queues: (0..queues).map(|_| Queue::default()).collect(),
            generation: 0,
            device,
        }
    }

    /// The device itself.
    #[cfg(test)]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// The device itself. After it was given something from outside, [`Self::serve`] has something to do; after its
    /// configuration was changed, [`Self::config_changed`] tells the driver.
    pub const fn device_mut(&mut self) -> &mut Device {
        &mut self.device
    }

    /// The level of the interrupt line.
    #[inline]
    pub fn line(&self) -> bool {
        !self.registers.interrupt.is_empty()
    }

    /// The device status.
    pub const fn status(&self) -> Status {
        self.registers.status
    }

    /// Reads `len_bytes` at `offset` in the window. Registers are four bytes wide and aligned, fields of the configuration
    /// space one, two, four or eight bytes; everything else reads zero.
    pub fn read(&self, offset: u64, len_bytes: usize) -> u64 {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            return self.read_config(offset, len_bytes);
        }
        if len_bytes == 4 { u64::from(self.read_register(offset)) } else { 0 }
    }

    /// Writes the lower `len_bytes` of `value` at `offset` in the window; what no register has is ignored.
    pub fn write(&mut self, offset: u64, len_bytes: usize, value: u64) -> Effect {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            let bytes = value.to_le_bytes();
            if let Some((offset, bytes)) = usize::try_from(offset).ok().zip(bytes.get(..len_bytes)) {
                self.device.write_config(offset, bytes);
            }
            return Effect::None;
        }
        if len_bytes == 4 { self.write_register(offset, low(value)) } else { Effect::None }
    }

    /// Does the next part of what the driver asks for, within what is left of the step's budget. There is nothing to do before
    /// the driver is ready, and after it made a queue malformed. Memory that is not there now, but comes, is waited for.
    pub fn serve<R: GuestRam>(
        &mut self,
        ram: &R,
        host: &mut impl DeviceHost,
        budget: &mut Budget,
    ) -> ServeProgress {
        if !self.is_live() {
            return ServeProgress::Done;
        }
        let mut io = Io::new(ram, &mut self.queues, &mut self.registers.noted, budget);
        let served = io.catch_up().and_then(|()| self.device.serve(&mut io, host));
        let (progress, notify) = (io.progress(), io.notify());
        if notify == Notify::Wanted {
            self.registers.interrupt.insert(Interrupt::USED_BUFFER);
        }
        match served {
            Ok(()) => progress,
            Err(Malformed::OutsideMemory(at)) if host.bring_back(at) == Memory::Comes => {
                budget.exhaust();
                ServeProgress::More
            }
            Err(_) => {
                self.registers.status.insert(Status::NEEDS_RESET);
                self.config_changed();
                ServeProgress::Done
            }
        }
    }

    /// Tells the driver that the configuration space is another one, or that the device needs a reset.
    pub fn config_changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.registers.status.contains(Status::DRIVER_OK) {
            self.registers.interrupt.insert(Interrupt::CONFIG_CHANGE);
        }
    }

    /// Sets everything back but the device's own contents, as the driver can by writing 0 to the status (§2.4.1).
    pub fn reset(&mut self) {
        for index in 0..self.queues.len() {
            self.stop(index);
        }
        self.setups.fill(Setup::default());
        self.registers = Registers::default();
    }

    /// Sets everything back, the device's own contents too: a machine that starts over.
    pub fn power_on(&mut self) {
        self.reset();
        self.device.power_on();
        self.generation = 0;
    }

    /// Whether the device may touch its queues.
    fn is_live(&self) -> bool {
        self.registers.status.contains(Status::DRIVER_OK)
            && !self.registers.status.contains(Status::NEEDS_RESET)
    }

    fn features(&self) -> u64 {
        self.device.features() | VERSION_1 | RingFeatures::all().bits()
    }

    fn read_config(&self, offset: u64, len_bytes: usize) -> u64 {
        let config: [u8; CONFIG_BYTES] = self.device.config();
        let mut bytes = [0; 8];
        if matches!(len_bytes, 1 | 2 | 4 | 8)
            && let Ok(start) = usize::try_from(offset)
        {
            let field = config.get(start..).unwrap_or_default();
            bytes.iter_mut().zip(field.iter().take(len_bytes)).for_each(|(to, from)| *to = *from);
        }
        u64::from_le_bytes(bytes)
    }

    fn read_register(&self, offset: u64) -> u32 {
        match offset {
            register::MAGIC_VALUE => MAGIC,
            register::VERSION => VERSION,
            register::DEVICE_ID => self.device.kind().0,
            register::VENDOR_ID => VENDOR,
            register::DEVICE_FEATURES => half(self.features(), self.registers.device_features_half),
            register::QUEUE_NUM_MAX => self.selected_queue().map_or(0, |_| u32::from(super::queue::MAX_SIZE)),
            register::QUEUE_READY => self.selected_queue().map_or(0, |queue| u32::from(queue.is_ready())),
            register::INTERRUPT_STATUS => self.registers.interrupt.bits(),
            register::STATUS => self.registers.status.bits(),
            // There are no shared memory regions: their length is -1.
            register::SHARED_MEMORY..=register::SHARED_MEMORY_LAST if offset.is_multiple_of(4) => u32::MAX,
            register::CONFIG_GENERATION => self.generation,
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) -> Effect {
        let half = low(offset) >> 2 & 1;
        match offset {
            register::DEVICE_FEATURES_SEL => self.registers.device_features_half = value,
            register::DRIVER_FEATURES_SEL => self.registers.driver_features_half = value,
            register::DRIVER_FEATURES => self.set_driver_features(value),
            register::QUEUE_SEL => self.registers.selected = value,
            register::QUEUE_NUM => self.set_up(|setup| setup.size = value),
            register::QUEUE_DESC_LOW | register::QUEUE_DESC_HIGH => {
                self.set_up(|setup| set_half(&mut setup.descriptors, half, value));
            }
            register::QUEUE_DRIVER_LOW | register::QUEUE_DRIVER_HIGH => {
                self.set_up(|setup| set_half(&mut setup.driver, half, value));
            }
            register::QUEUE_DEVICE_LOW | register::QUEUE_DEVICE_HIGH => {
                self.set_up(|setup| set_half(&mut setup.device, half, value));
            }
            register::QUEUE_READY => self.set_ready(value),
            register::QUEUE_NOTIFY => return self.note(value),
            register::INTERRUPT_ACK => self.registers.interrupt.remove(Interrupt::from_bits_truncate(value)),
            register::STATUS => return self.set_status(value),
            _ => {}
        }
        Effect::None
    }

    /// What was agreed on stays (§3.1.1).
    fn set_driver_features(&mut self, value: u32) {
        if !self.registers.status.contains(Status::FEATURES_OK) {
            match self.registers.driver_features_half {
                half @ (0 | 1) => set_half(&mut self.registers.driver_features, half, value),
                // No such features were offered, and a driver that wants one is told so at FEATURES_OK.
                _ if value != 0 => self.registers.driver_features |= !self.features(),
                _ => {}
            }
        }
    }

    fn index(&self) -> usize {
        usize::try_from(self.registers.selected).unwrap_or(usize::MAX)
    }

    fn selected_queue(&self) -> Option<&Queue> {
        self.queues.get(self.index())
    }

    /// A queue that is in use keeps its place (§4.2.2.2).
    fn set_up(&mut self, change: impl FnOnce(&mut Setup)) {
        let index = self.index();
        if let Some((setup, queue)) = self.setups.get_mut(index).zip(self.queues.get(index))
            && !queue.is_ready()
        {
            change(setup);
        }
    }

    fn set_ready(&mut self, value: u32) {
        let index = self.index();
        match (self.setups.get(index), self.queues.get_mut(index)) {
            (Some(setup), Some(queue))
                if value == 1 && self.registers.status.contains(Status::FEATURES_OK) =>
            {
                queue.start(setup, RingFeatures::from_bits_truncate(self.registers.driver_features));
                // A driver that sets a queue up late may have filled it first.
                self.registers.noted |= bit(self.registers.selected);
            }
            _ if value == 0 => self.stop(index),
            _ => {}
        }
    }

    fn stop(&mut self, index: usize) {
        if let (Some(queue), Ok(number)) = (self.queues.get_mut(index), u16::try_from(index)) {
            queue.stop();
            self.device.forget(number);
        }
    }

    fn note(&mut self, queue: u32) -> Effect {
        if usize::try_from(queue).is_ok_and(|queue| queue < self.queues.len()) {
            self.registers.noted |= bit(queue);
        }
        if self.is_live() && self.registers.noted != 0 { Effect::Serve } else { Effect::None }
    }

    /// A driver sets bits one after the other, and clears them all (§2.1.1, §3.1.1). One bit is the device's alone.
    fn set_status(&mut self, value: u32) -> Effect {
        if value == 0 {
            self.reset();
            return Effect::None;
        }
        let mut wanted = Status::from_bits_truncate(value) - Status::NEEDS_RESET - self.registers.status;
        if wanted.contains(Status::FEATURES_OK) && !self.features_are_acceptable() {
            wanted.remove(Status::FEATURES_OK);
        }
        // Without agreed features there is only the legacy interface, which is not here.
        if !(self.registers.status | wanted).contains(Status::FEATURES_OK) {
            wanted.remove(Status::DRIVER_OK);
        }
        self.registers.status |= wanted;
        let starts = wanted.contains(Status::DRIVER_OK) && self.is_live();
        if starts { Effect::Serve } else { Effect::None }
    }

    fn features_are_acceptable(&self) -> bool {
        self.registers.driver_features & VERSION_1 != 0
            && self.registers.driver_features & !self.features() == 0
    }
}

/// The bit of a queue among those that may have something.
fn bit(queue: u32) -> u32 {
    1_u32.checked_shl(queue).unwrap_or(0)
}

/// Half `n` of the feature bits; there are two.
fn half(value: u64, n: u32) -> u32 {
    low(value.checked_shr(n.saturating_mul(u32::BITS)).unwrap_or(0))
}

/// Writes half 0 or 1.
fn set_half(whole: &mut u64, n: u32, value: u32) {
    let shift = (n & 1) * u32::BITS;
    *whole = *whole & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
}
