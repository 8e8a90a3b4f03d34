//! What a test asks of a guest.

use crate::image::manifest::{Devices, GuestConfig, Mode, Payload, Visibility};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Memory of each guest: what a kernel at 1 MiB needs, and a little more.
const MEMORY_MIB: u32 = 4;

/// What a guest is to be.
#[derive(Clone, Debug)]
pub struct Spec(pub(super) GuestConfig);

impl Spec {
    /// An ordinary PC.
    pub fn full(name: &str) -> Self {
        Self::new(name, Mode::Full)
    }

    /// A PC with KVM's paravirtual interface.
    pub fn kvm(name: &str) -> Self {
        Self::new(name, Mode::Kvm)
    }

    /// A guest to which Comity is announced.
    pub fn cooperative(name: &str) -> Self {
        Self::new(name, Mode::Cooperative)
    }

    fn new(name: &str, mode: Mode) -> Self {
        Self(GuestConfig {
            name: name.to_string(),
            mode,
            vcpus: 1,
            memory_mib: MEMORY_MIB,
            memory_max_mib: MEMORY_MIB,
            weight: 100,
            visibility: Visibility::Bit,
            restarts: 0,
            kernel: Payload { offset_bytes: 4096, len_bytes: 1 },
            initrd: None,
            command_line: String::new(),
            pin: Vec::new(),
            devices: Devices::default(),
            mark_port: false,
        })
    }

    /// With these virtio devices.
    #[must_use]
    pub fn devices(mut self, devices: Devices) -> Self {
        self.0.devices = devices;
        self
    }

    /// With so many vCPUs.
    #[must_use]
    pub fn vcpus(mut self, vcpus: u8) -> Self {
        self.0.vcpus = vcpus;
        self
    }

    /// With memory of this size, that may grow to that.
    #[must_use]
    pub fn memory_mib(mut self, begins: u32, most: u32) -> Self {
        (self.0.memory_mib, self.0.memory_max_mib) = (begins, most);
        self
    }

    /// With this weight.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.0.weight = weight;
        self
    }

    /// It may not know that others wait.
    #[must_use]
    pub fn blind(mut self) -> Self {
        self.0.visibility = Visibility::None;
        self
    }

    /// It is started again so often.
    #[must_use]
    pub fn restarts(mut self, restarts: u32) -> Self {
        self.0.restarts = restarts;
        self
    }

    /// vCPU i runs on processor `cpus[i % len]` only.
    #[must_use]
    pub fn pin(mut self, cpus: &[u8]) -> Self {
        self.0.pin = cpus.to_vec();
        self
    }

    /// It may write marks to a port.
    #[must_use]
    pub fn mark_port(mut self) -> Self {
        self.0.mark_port = true;
        self
    }
}
