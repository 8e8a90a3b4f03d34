//! The size of the hypervisor's heap: the objects on it, and their bound in bytes.
//!
//! The hypervisor makes all heap objects before guests run, in sizes that the configuration gives, except telemetry records, which have a
//! quota, and objects that a restart makes anew. The table is in docs/src/invariants.md; `hv-core/tests/heap_bound.rs` counts.

use crate::manifest::Manifest;

/// Most heap bytes for all telemetry records together; the guests share them evenly.
pub const RECORDS_BYTES: usize = 12 << 20;

/// Heap bytes that every machine has; a machine whose [`Size`] needs more gets more before its guests are made.
pub const LEAST_BYTES: u64 = 32 << 20;

/// Bytes for the manifest, lines, firmware's tables while they are read, one line or record that is being written, and the allocator's
/// loss to fragmentation.
const FIXED: u64 = 2 << 20;
/// Bytes per processor: its descriptors and stacks for exceptions, its line on the board, and the trees of its run queue.
const CPU: u64 = 192 << 10;
/// Bytes per guest: the guest, its virtio devices with their chains, its images' plan while it is made.
const GUEST: u64 = 80 << 10;
/// Bytes per vCPU: the vCPU, its state that other processors see, and its CPUID table.
const VCPU: u64 = 8 << 10;
/// Bytes per guest and processor: an entity in the processor's run queue with its tree, its place in the balancer's two placements, and
/// counts.
const GUEST_ON_CPU: u64 = 2 << 10;
/// Bytes per vCPU and processor: the vCPU in the processor's run queue, its timer, and its place in the processor's table.
const VCPU_ON_CPU: u64 = 192;
/// Bytes per network card: its inbox, and the stations known behind it.
const CARD: u64 = 104 << 10;
/// Bytes per writable page of a disk: the page, and its number.
const DISK_PAGE: u64 = (4 << 10) + 4;
/// Bytes per page of a writable disk's image: the index of the changed page.
const IMAGE_PAGE: u64 = 4;
/// Bytes per block of 2 MiB of guest memory: its address, and its place in the pool.
const BLOCK: u64 = 16;

/// The quantities that the heap's size depends on.
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
    /// Writable pages of all disks.
    pub writable_pages: u64,
    /// Pages of the images of the writable disks.
    pub image_pages: u64,
    /// Most blocks of 2 MiB that all guests together may have.
    pub blocks: u64,
}

impl Size {
    /// Counts the quantities of a manifest, on a machine of `cpus` processors.
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

    /// Returns the heap bytes that suffice for any behaviour of the guests.
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
