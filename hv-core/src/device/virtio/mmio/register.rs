//! Which register lies where (§4.2.2, table 4.1).

/// Read: tells a virtio device.
pub const MAGIC_VALUE: u64 = 0x000;
/// Read: of this layout.
pub const VERSION: u64 = 0x004;
/// Read: which device.
pub const DEVICE_ID: u64 = 0x008;
/// Read: whose.
pub const VENDOR_ID: u64 = 0x00C;
/// Read: half of the features offered.
pub const DEVICE_FEATURES: u64 = 0x010;
/// Write: which half.
pub const DEVICE_FEATURES_SEL: u64 = 0x014;
/// Write: half of the features wanted.
pub const DRIVER_FEATURES: u64 = 0x020;
/// Write: which half.
pub const DRIVER_FEATURES_SEL: u64 = 0x024;
/// Write: which queue the others are about.
pub const QUEUE_SEL: u64 = 0x030;
/// Read: most descriptors.
pub const QUEUE_NUM_MAX: u64 = 0x034;
/// Write: descriptors.
pub const QUEUE_NUM: u64 = 0x038;
/// Whether the queue is in use.
pub const QUEUE_READY: u64 = 0x044;
/// Write: this queue has something.
pub const QUEUE_NOTIFY: u64 = 0x050;
/// Read: why the line is up.
pub const INTERRUPT_STATUS: u64 = 0x060;
/// Write: which reasons were seen.
pub const INTERRUPT_ACK: u64 = 0x064;
/// The device status.
pub const STATUS: u64 = 0x070;
/// Write: where the descriptors lie.
pub const QUEUE_DESC_LOW: u64 = 0x080;
/// The upper half.
pub const QUEUE_DESC_HIGH: u64 = 0x084;
/// Write: where the available ring lies.
pub const QUEUE_DRIVER_LOW: u64 = 0x090;
/// The upper half.
pub const QUEUE_DRIVER_HIGH: u64 = 0x094;
/// Write: where the used ring lies.
pub const QUEUE_DEVICE_LOW: u64 = 0x0A0;
/// The upper half.
pub const QUEUE_DEVICE_HIGH: u64 = 0x0A4;
/// Read: length and base of a shared memory region, in four registers from here.
pub const SHARED_MEMORY: u64 = 0x0B0;
/// The last of these.
pub const SHARED_MEMORY_LAST: u64 = 0x0BC;
/// Read: another value after each change of the configuration space.
pub const CONFIG_GENERATION: u64 = 0x0FC;
