//! What is under a bare kernel, in QEMU's words.

use std::ffi::OsString;
use std::path::PathBuf;

/// The board that a bare kernel boots on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Board {
    /// A PC of 1996: PCI, PIT, HPET.
    #[default]
    Pc,
    /// No PCI and no HPET: LAPIC, IOAPIC, 16550, PIT, and virtio devices that ACPI names by their addresses.
    MicroVm(Vec<Device>),
}

/// A virtio device of a [`Board::MicroVm`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// A disk that holds a file's bytes.
    Disk(PathBuf),
    /// One end of a cable: the socket that this machine makes, and the one that the other machine makes. Frames for a machine
    /// that is not there yet are lost.
    Net {
        /// Last byte of the address, which is the machine's own.
        number: u8,
        /// This machine's socket.
        own: PathBuf,
        /// The other machine's.
        other: PathBuf,
    },
}

impl Board {
    /// QEMU's name for it, with its properties.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Pc => "pc",
            Self::MicroVm(_) => "microvm,acpi=on",
        }
    }

    /// QEMU's arguments for what is on it.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        self.devices().iter().enumerate().flat_map(|(index, device)| device.arguments(index)).collect()
    }

    /// Whether it has a cable: its time must then pass as in the other machine, also where instructions are counted.
    pub(super) fn has_cable(&self) -> bool {
        self.devices().iter().any(|device| matches!(device, Device::Net { .. }))
    }

    fn devices(&self) -> &[Device] {
        match self {
            Self::Pc => &[],
            Self::MicroVm(devices) => devices,
        }
    }
}

impl Device {
    fn arguments(&self, index: usize) -> [OsString; 4] {
        match self {
            Self::Disk(file) => {
                let mut drive = OsString::from(format!("id=disk{index},if=none,format=raw,file="));
                drive.push(file);
                let device = format!("virtio-blk-device,drive=disk{index}");
                ["-drive".into(), drive, "-device".into(), device.into()]
            }
            Self::Net { number, own, other } => {
                let mut cable = OsString::from(format!("dgram,id=net{index},local.type=unix,local.path="));
                cable.push(own);
                cable.push(",remote.type=unix,remote.path=");
                cable.push(other);
                let device = format!("virtio-net-device,netdev=net{index},mac=52:54:00:00:00:{number:02x}");
                ["-netdev".into(), cable, "-device".into(), device.into()]
            }
        }
    }
}
