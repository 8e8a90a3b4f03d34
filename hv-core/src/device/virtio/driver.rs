//! A driver for tests: it initializes a device, makes buffers available, and looks at what came back.

mod ram;
mod rings;

pub use ram::{RAM_BYTES, Ram};
pub use rings::{Rings, SIZE};

use super::io::Budget;
use super::mmio::{Effect, Status, Transport};
use super::queue::RingFeatures;
use super::switch::Ports;
use super::{Device, DeviceHost, Memory, ServeProgress};
use alloc::vec::Vec;

/// The device writes to the buffer.
pub const WRITE: u16 = 2;
/// Another descriptor follows.
pub const NEXT: u16 = 1;
/// The descriptor is of a table.
pub const INDIRECT: u16 = 4;

/// What devices gave to the outside.
#[derive(Debug, Default)]
pub struct Seen {
    /// What the console said.
    pub said: Vec<u8>,
    /// The console may say nothing now.
    pub deaf: bool,
    /// The ports that were woken, all together.
    pub woken: u64,
    /// The last random number: they count.
    pub random: u64,
    /// The blocks that were given back.
    pub freed: Vec<u64>,
    /// How often the device is told that processors may have translations of blocks, after it gave one.
    pub shootdown_steps: u32,
    /// How often it will yet be.
    pub shootdown_left: u32,
    /// Memory that was lent comes back.
    pub lends: bool,
    /// Where it comes next.
    came: Option<u64>,
}

impl DeviceHost for Seen {
    fn console(&mut self, text: &[u8]) -> bool {
        if !self.deaf {
            self.said.extend_from_slice(text);
        }
        !self.deaf
    }
    fn wake(&mut self, ports: Ports) {
        self.woken |= ports.0;
    }
    fn random(&mut self) -> u64 {
        self.random += 1;
        self.random
    }
    fn free_block(&mut self, block: u64) {
        self.freed.push(block);
        self.shootdown_left = self.shootdown_steps;
    }
    fn shootdown(&mut self) -> ServeProgress {
        match self.shootdown_left.checked_sub(1) {
            Some(left) => {
                self.shootdown_left = left;
                ServeProgress::More
            }
            None => ServeProgress::Done,
        }
    }
    fn bring_back(&mut self, at: u64) -> Memory {
        self.came = Some(at);
        if self.lends && at < RAM_BYTES { Memory::Comes } else { Memory::None }
    }
}

/// A driver with its device.
#[derive(Debug)]
pub struct Driver {
    /// The device.
    pub transport: Transport,
    /// The guest's memory.
    pub ram: Ram,
    /// What left the device.
    pub seen: Seen,
    /// Its queues.
    pub queues: Vec<Rings>,
}

impl Driver {
    /// A driver that has not touched its device.
    pub fn new(device: Device) -> Self {
        let transport = Transport::new(device);
        Self { transport, ram: Ram::new(), seen: Seen::default(), queues: Vec::new() }
    }

    /// A driver that has set its device up with all that is offered but for the event index.
    pub fn ready(device: Device) -> Self {
        let mut driver = Self::new(device);
        driver.set_up(!RingFeatures::EVENT_IDX.bits());
        driver
    }

    /// Reads a register.
    pub fn get(&self, register: u64) -> u32 {
        u32::try_from(self.transport.read(register, 4)).unwrap()
    }

    /// Writes a register.
    pub fn set(&mut self, register: u64, value: u32) -> Effect {
        self.transport.write(register, 4, u64::from(value))
    }

    /// Writes a register from which nothing follows.
    pub fn put(&mut self, register: u64, value: u32) {
        assert_eq!(self.set(register, value), Effect::None, "{register:#x}");
    }

    /// Goes through the initialization (§3.1.1) with the features of `mask` that are offered.
    pub fn set_up(&mut self, mask: u64) {
        self.put(0x70, 0);
        self.put(0x70, 1);
        self.put(0x70, 3);
        for half in [0, 1] {
            self.put(0x14, half);
            self.put(0x24, half);
            let offered = self.get(0x10);
            let mask = u32::try_from(mask >> (32 * half) & 0xFFFF_FFFF).unwrap();
            self.put(0x20, offered & mask);
        }
        self.put(0x70, 11);
        assert_eq!(self.get(0x70), 11, "the device accepts a part of what it offers");
        self.queues.clear();
        for n in 0..self.transport.device().kind().1 {
            self.start_queue(u32::try_from(n).unwrap());
        }
        assert_eq!(self.set(0x70, 15), Effect::Serve);
    }

    /// Clears a queue's rings and starts it.
    pub fn start_queue(&mut self, n: u32) {
        let rings = Rings::new(u64::from(n));
        self.ram.put(rings.setup.descriptors, &[0; 0x4000]);
        self.put(0x30, n);
        assert_eq!(self.get(0x34), u32::from(SIZE));
        self.put(0x38, rings.setup.size);
        for (register, at) in
            [(0x80, rings.setup.descriptors), (0x90, rings.setup.driver), (0xA0, rings.setup.device)]
        {
            self.put(register, u32::try_from(at & 0xFFFF_FFFF).unwrap());
            self.put(register + 4, u32::try_from(at >> 32).unwrap());
        }
        self.put(0x44, 1);
        assert_eq!(self.get(0x44), 1);
        let n = usize::try_from(n).unwrap();
        self.queues.truncate(n);
        self.queues.push(rings);
    }

    /// Makes a chain available in queue `n`, and notifies.
    pub fn offer(&mut self, n: usize, buffers: &[(u64, u32, u16)]) -> u16 {
        let head = self.queues[n].offer(&self.ram, buffers);
        assert_eq!(self.set(0x50, u32::try_from(n).unwrap()), Effect::Serve);
        head
    }

    /// What the device gave back of queue `n`.
    pub fn used(&mut self, n: usize) -> Vec<(u16, u32)> {
        self.queues[n].used(&self.ram)
    }

    /// Serves once.
    pub fn step(&mut self) -> ServeProgress {
        let progress = self.transport.serve(&self.ram, &mut self.seen, &mut Budget::of_step());
        if let Some(at) = core::mem::take(&mut self.seen.came) {
            self.ram.come(at);
        }
        progress
    }

    /// Serves until there is nothing to do. Returns how many steps that took.
    pub fn serve(&mut self) -> usize {
        let mut steps = 1;
        while self.step() == ServeProgress::More {
            steps += 1;
            assert!(steps < 1 << 20, "the device has always more to do");
        }
        steps
    }

    /// Whether the device wants a reset.
    pub fn is_broken(&self) -> bool {
        self.transport.status().contains(Status::NEEDS_RESET)
    }
}
