//! Which register lies where (§4.2.2, table 4.1).

/// A register of all devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// Read: tells a virtio device.
    MagicValue,
    /// Read: of this layout.
    Version,
    /// Read: which device.
    DeviceId,
    /// Read: whose.
    VendorId,
    /// Read: half of the features offered.
    DeviceFeatures,
    /// Write: which half.
    DeviceFeaturesSel,
    /// Write: half of the features wanted.
    DriverFeatures,
    /// Write: which half.
    DriverFeaturesSel,
    /// Write: which queue the others are about.
    QueueSel,
    /// Read: most descriptors.
    QueueNumMax,
    /// Write: descriptors.
    QueueNum,
    /// Whether the queue is in use.
    QueueReady,
    /// Write: this queue has something.
    QueueNotify,
    /// Read: why the line is up.
    InterruptStatus,
    /// Write: which reasons were seen.
    InterruptAck,
    /// The device status.
    Status,
    /// Write: where the descriptors lie.
    QueueDescLow,
    /// The upper half.
    QueueDescHigh,
    /// Write: where the available ring lies.
    QueueDriverLow,
    /// The upper half.
    QueueDriverHigh,
    /// Write: where the used ring lies.
    QueueDeviceLow,
    /// The upper half.
    QueueDeviceHigh,
    /// Read: length and base of a shared memory region.
    SharedMemory,
    /// Read: another value after each change of the configuration space.
    ConfigGeneration,
}

impl Register {
    /// The register at an offset, if one begins there.
    pub const fn at(offset: u64) -> Option<Self> {
        Some(match offset {
            0x000 => Self::MagicValue,
            0x004 => Self::Version,
            0x008 => Self::DeviceId,
            0x00C => Self::VendorId,
            0x010 => Self::DeviceFeatures,
            0x014 => Self::DeviceFeaturesSel,
            0x020 => Self::DriverFeatures,
            0x024 => Self::DriverFeaturesSel,
            0x030 => Self::QueueSel,
            0x034 => Self::QueueNumMax,
            0x038 => Self::QueueNum,
            0x044 => Self::QueueReady,
            0x050 => Self::QueueNotify,
            0x060 => Self::InterruptStatus,
            0x064 => Self::InterruptAck,
            0x070 => Self::Status,
            0x080 => Self::QueueDescLow,
            0x084 => Self::QueueDescHigh,
            0x090 => Self::QueueDriverLow,
            0x094 => Self::QueueDriverHigh,
            0x0A0 => Self::QueueDeviceLow,
            0x0A4 => Self::QueueDeviceHigh,
            0x0B0 | 0x0B4 | 0x0B8 | 0x0BC => Self::SharedMemory,
            0x0FC => Self::ConfigGeneration,
            _ => return None,
        })
    }
}
