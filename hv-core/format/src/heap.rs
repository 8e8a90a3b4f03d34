//! How large the hypervisor's heap must be: what lies there, and its bound in bytes.
//!
//! Everything on the heap is made before guests run, in sizes that the configuration gives, but for records of telemetry, which have a
//! quota, and what a restart makes anew. The table is in docs/src/invariants.md; `hv-core/tests/heap_bound.rs` counts.

use crate::manifest::Manifest;

/// Bytes of the heap that all records of telemetry together take at most; the guests share them evenly.
pub const RECORDS_BYTES: usize = 12 << 20;

/// Bytes of the heap that every machine has; one whose [`Size`] needs more gets more before its guests are made.
pub const LEAST_BYTES: u64 = 32 << 20;

/// The manifest, lines, firmware's tables while they are read, one line or record that is being written; and what an allocator loses to
/// holes.
const FIXED: u64 = 2 << 20;
/// A processor's descriptors and stacks for exceptions, its line on the board, and the trees of its run queue.
const CPU: u64 = 192 << 10;
/// A guest, its virtio devices with their chains, its images' plan while it is made.
const GUEST: u64 = 80 << 10;
/// A vCPU with what others see of it, and its CPUID table.
const VCPU: u64 = 8 << 10;
/// An entity in a processor's run queue with its tree, its place in the balancer's two placements, and counts.
const GUEST_ON_CPU: u64 = 2 << 10;
/// A vCPU in a processor's run queue, its timer, and its place in the processor's table.
const VCPU_ON_CPU: u64 = 192;
/// A network card's inbox, and the stations that are known behind it.
const CARD: u64 = 104 << 10;
/// A page of a disk that may be changed, and its number.
const DISK_PAGE: u64 = (4 << 10) + 4;
/// For each page of the image of a disk that may be changed: where its change is.
const IMAGE_PAGE: u64 = 4;
/// A block of 2 MiB of guest memory: where it lies, and its place in the pool.
const BLOCK: u64 = 16;

/// What the heap's size depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Processors.
    pub cpus: u64,
    /// Guests.
    pub guests: u64,
    /// vCPUs of all guests.
    pub vcpus: u64,
    /// Network cards of all guests.
    pub cards: u64,
    /// Pages of all disks that may be changed.
    pub writable_pages: u64,
    /// Pages of the images of these disks.
    pub image_pages: u64,
    /// Blocks of 2 MiB that guests may have, all together.
    pub blocks: u64,
}

impl Size {
    /// Of a manifest, on a machine of so many processors.
    pub fn of(manifest: &Manifest, cpus: u8) -> Self {
        let mut size = Self { cpus: cpus.into(), ..Self::default() };
        for guest in &manifest.guests {
            size.guests += 1;
            size.vcpus += u64::from(guest.vcpus);
            size.cards += u64::from(guest.devices.network.is_some());
            size.blocks += u64::from(guest.memory_max_mib / 2);
            if let Some(disk) = guest.devices.disk.filter(|disk| disk.writable_pages != 0) {
                size.writable_pages += u64::from(disk.writable_pages);
                size.image_pages += disk.image.len_bytes.div_ceil(4096);
            }
        }
        size
    }

    /// Bytes of the heap that are enough, whatever the guests do.
    pub const fn bytes(&self) -> u64 {
        FIXED
            + RECORDS_BYTES as u64
            + self.cpus * (CPU + self.guests * GUEST_ON_CPU + self.vcpus * VCPU_ON_CPU)
            + self.guests * GUEST
            + self.vcpus * VCPU
            + self.cards * CARD
            + self.writable_pages * DISK_PAGE
            + self.image_pages * IMAGE_PAGE
            + self.blocks * BLOCK
    }
}
