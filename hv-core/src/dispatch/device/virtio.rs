//! Virtio devices. Section numbers: Virtual I/O Device (VIRTIO) version 1.2, OASIS, 2022.
//!
//! Owns the device's side. Knows nothing of exits, vCPUs or interrupt controllers.

#[cfg(test)]
mod driver;
pub mod queue;
