//! Rings laid out in memory.

use super::{NEXT, Ram};
use crate::device::virtio::queue::{Queue, RingFeatures, Setup};
use alloc::vec::Vec;

/// Descriptors in a test's queue.
pub const SIZE: u16 = 256;

/// A queue as its driver sees it.
#[derive(Clone, Copy, Debug)]
pub struct Rings {
    /// Where it all lies, as the device is told.
    pub setup: Setup,
    next_descriptor: u16,
    available: u16,
    seen: u16,
}

impl Rings {
    /// The rings of queue `n`, all zero.
    pub fn new(n: u64) -> Self {
        let base = 0x1_0000 * (n + 1);
        let setup =
            Setup { size: u32::from(SIZE), descriptors: base, driver: base + 0x2000, device: base + 0x3000 };
        Self { setup, next_descriptor: 0, available: 0, seen: 0 }
    }

    /// A device's queue that has started with these rings.
    pub fn start(&self, features: RingFeatures) -> Queue {
        let mut queue = Queue::default();
        queue.start(&self.setup, features);
        queue
    }

    /// Writes a chain of descriptors and makes it available. Returns its first descriptor.
    pub fn offer(&mut self, ram: &Ram, buffers: &[(u64, u32, u16)]) -> u16 {
        let head = self.next_descriptor;
        for (n, (at, len, flags)) in buffers.iter().enumerate() {
            let next = (self.next_descriptor + 1) % SIZE;
            let flags = flags | if n + 1 < buffers.len() { NEXT } else { 0 };
            ram.put_descriptor(self.setup.descriptors, self.next_descriptor, (*at, *len, flags, next));
            self.next_descriptor = next;
        }
        self.publish(ram, head);
        head
    }

    /// The next chain is written over the first one.
    pub const fn rewind(&mut self) {
        self.next_descriptor = 0;
    }

    /// Makes the chain that begins at `head` available.
    pub fn publish(&mut self, ram: &Ram, head: u16) {
        ram.put(self.setup.driver + 4 + 2 * u64::from(self.available % SIZE), &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        self.set_available(ram, self.available);
    }

    /// Writes the available index.
    pub fn set_available(&self, ram: &Ram, index: u16) {
        ram.put(self.setup.driver + 2, &index.to_le_bytes());
    }

    /// Writes the flags of the available ring.
    pub fn set_flags(&self, ram: &Ram, flags: u16) {
        ram.put(self.setup.driver, &flags.to_le_bytes());
    }

    /// Asks for an interrupt when the used index passes this one.
    pub fn set_used_event(&self, ram: &Ram, index: u16) {
        ram.put(self.setup.driver + 4 + 2 * u64::from(SIZE), &index.to_le_bytes());
    }

    /// At which available index the device wants to be told.
    pub fn available_event(&self, ram: &Ram) -> u16 {
        ram.get_u16(self.setup.device + 4 + 8 * u64::from(SIZE))
    }

    /// What the device gave back since the last call: first descriptor and length.
    pub fn used(&mut self, ram: &Ram) -> Vec<(u16, u32)> {
        let mut used = Vec::new();
        while self.seen != ram.get_u16(self.setup.device + 2) {
            let element = ram.get(self.setup.device + 4 + 8 * u64::from(self.seen % SIZE), 8);
            let word = |at: usize| u32::from_le_bytes(element[at..at + 4].try_into().unwrap());
            used.push((u16::try_from(word(0)).unwrap(), word(4)));
            self.seen = self.seen.wrapping_add(1);
        }
        used
    }
}
