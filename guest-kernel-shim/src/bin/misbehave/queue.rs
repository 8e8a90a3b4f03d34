//! A virtio device with one queue that is set up and filled by hand, rightly or not. Section numbers: VIRTIO 1.2.

use crate::raw::{self, Size};

/// The pages of a guest's four devices.
pub const PAGES: [u64; 4] = [0xd000_0000, 0xd000_1000, 0xd000_2000, 0xd000_3000];
const PAGE: u64 = 0x1000;

/// Registers (§4.2.2).
pub mod register {
    pub const MAGIC: u64 = 0x00;
    pub const DEVICE_ID: u64 = 0x08;
    pub const DRIVER_FEATURES: u64 = 0x20;
    pub const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub const QUEUE_SEL: u64 = 0x30;
    pub const QUEUE_NUM: u64 = 0x38;
    pub const QUEUE_READY: u64 = 0x44;
    pub const QUEUE_NOTIFY: u64 = 0x50;
    pub const STATUS: u64 = 0x70;
    pub const QUEUE_DESC: u64 = 0x80;
    pub const QUEUE_DRIVER: u64 = 0x90;
    pub const QUEUE_DEVICE: u64 = 0xa0;
}

/// The device status (§2.1).
pub mod status {
    /// ACKNOWLEDGE, DRIVER.
    pub const SEEN: u64 = 3;
    pub const DRIVER_OK: u64 = 4;
    pub const FEATURES_OK: u64 = 8;
    pub const NEEDS_RESET: u64 = 0x40;
}

/// Numbers of devices (§5).
pub mod id {
    pub const NETWORK: u64 = 1;
    pub const DISK: u64 = 2;
    pub const CONSOLE: u64 = 3;
    pub const ENTROPY: u64 = 4;
}

/// Descriptor flags (§2.7.5).
pub const NEXT: u64 = 1;
pub const WRITE: u64 = 2;
pub const INDIRECT: u64 = 4;

/// Feature bits (§6): INDIRECT_DESC and EVENT_IDX, and VERSION_1 in the upper half.
pub const INDIRECT_DESC: u64 = 1 << 28;
pub const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1;

/// Memory for rings, requests and data: above this kernel's image, below the end of a small guest's RAM.
pub const ROOM: u64 = 8 << 20;
/// Descriptors of a queue, unless another number is tried.
pub const SIZE: u64 = 8;

/// Where a queue's parts lie, and how many descriptors it has.
#[derive(Clone, Copy)]
pub struct Place {
    pub size: u64,
    pub descriptors: u64,
    pub driver: u64,
    pub device: u64,
}

impl Place {
    /// What no device can object to.
    pub const GOOD: Self =
        Self { size: SIZE, descriptors: ROOM, driver: ROOM + PAGE, device: ROOM + 2 * PAGE };
}

/// Free for tables and data.
pub const DATA: u64 = ROOM + 3 * PAGE;

/// A device, and the queue of it that is used.
#[derive(Clone, Copy)]
pub struct Device {
    page: u64,
    queue: u64,
}

impl Device {
    /// The one of this kind.
    pub fn of(kind: u64, queue: u64) -> Option<Self> {
        let is_it = |page: &u64| raw::load(page + register::DEVICE_ID, Size::Four) == kind;
        PAGES.into_iter().find(is_it).map(|page| Self { page, queue })
    }

    /// Reads a register.
    pub fn read(&self, register: u64) -> u64 {
        raw::load(self.page + register, Size::Four)
    }

    /// Writes a register.
    pub fn write(&self, register: u64, value: u64) {
        raw::store_sized(self.page + register, Size::Four, value);
    }

    /// Writes both halves of an address.
    fn write_address(&self, register: u64, address: u64) {
        self.write(register, address & 0xffff_ffff);
        self.write(register + 4, address >> 32);
    }

    /// Resets it, empties its rings, agrees on these features and says where the queue is; whether it is ready then.
    pub fn set_up(&self, place: &Place, features: u64) -> bool {
        self.write(register::STATUS, 0);
        for word in 0..4 * PAGE / 8 {
            poke(ROOM + word * 8, 0);
        }
        self.write(register::STATUS, status::SEEN);
        for (half, features) in [(0, features), (1, VERSION_1)] {
            self.write(register::DRIVER_FEATURES_SEL, half);
            self.write(register::DRIVER_FEATURES, features);
        }
        self.write(register::STATUS, status::SEEN | status::FEATURES_OK);
        self.write(register::QUEUE_SEL, self.queue);
        self.write(register::QUEUE_NUM, place.size);
        self.write_address(register::QUEUE_DESC, place.descriptors);
        self.write_address(register::QUEUE_DRIVER, place.driver);
        self.write_address(register::QUEUE_DEVICE, place.device);
        self.write(register::QUEUE_READY, 1);
        self.write(register::STATUS, status::SEEN | status::FEATURES_OK | status::DRIVER_OK);
        self.read(register::QUEUE_READY) == 1
    }

    /// Makes what begins at `head` available as the first chain, says that there are `index` of them, and notifies.
    pub fn offer(&self, head: u64, index: u64) {
        poke(Place::GOOD.driver, index << 16 | head << 32);
        self.write(register::QUEUE_NOTIFY, self.queue);
    }

    /// Whether it does nothing more until a reset.
    pub fn needs_reset(&self) -> bool {
        self.read(register::STATUS) & status::NEEDS_RESET != 0
    }

    /// Chains that it gave back.
    pub fn used(&self) -> u64 {
        peek(Place::GOOD.device) >> 16 & 0xffff
    }
}

/// Writes descriptor `n` of a table (§2.7.5).
pub fn describe(table: u64, n: u64, at: u64, len_bytes: u64, flags: u64, next: u64) {
    poke(table + n * 16, at);
    poke(table + n * 16 + 8, len_bytes & 0xffff_ffff | flags << 32 | next << 48);
}

/// Stores to memory that this kernel uses for nothing else.
pub fn poke(at: u64, value: u64) {
    raw::store_sized(at, Size::Eight, value);
}

/// Loads from it.
pub fn peek(at: u64) -> u64 {
    raw::load(at, Size::Eight)
}

/// Writes a pattern to the disk's second sector and reads it back; whether it came back.
pub fn disk_works(disk: &Device, pattern: u64) -> bool {
    const READ: u64 = 0;
    const STORE: u64 = 1;
    let (header, status, data) = (DATA, DATA + 16, DATA + 512);
    let request = |kind: u64, flags: u64, fill: u64| {
        let ready = disk.set_up(&Place::GOOD, 0);
        (0..64).for_each(|word| poke(data + word * 8, fill));
        poke(header, kind);
        poke(header + 8, 1);
        poke(status, 0xff);
        describe(Place::GOOD.descriptors, 0, header, 16, NEXT, 1);
        describe(Place::GOOD.descriptors, 1, data, 512, flags | NEXT, 2);
        describe(Place::GOOD.descriptors, 2, status, 1, WRITE, 0);
        disk.offer(0, 1);
        ready && disk.used() == 1 && peek(status) & 0xff == 0
    };
    request(STORE, 0, pattern)
        && request(READ, WRITE, 0)
        && (0..64).all(|word| peek(data + word * 8) == pattern)
}
