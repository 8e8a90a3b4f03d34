//! A split virtqueue, the device's side (§2.7).
//!
//! The driver writes descriptors and the available ring whenever it likes. Each is read once into a local and checked; what
//! cannot be understood is [`Malformed`], and the device stops. An index is written and read by one copy of two aligned
//! bytes: a driver that runs meanwhile sees it whole only if [`GuestRam`] copies them whole.

mod chain;
mod malformed;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub use chain::MAX_SEGMENTS;
pub use chain::{Chain, Segment};
pub use malformed::Malformed;

use crate::base::addr::GuestPhys;
use crate::base::hardware::GuestRam;
use bitflags::bitflags;
use core::num::Wrapping;
use core::sync::atomic::{Ordering, fence};

/// Most descriptors in a queue.
pub const MAX_SIZE: u16 = 256;

bitflags! {
    /// The features of rings that these devices know (§6), in the places that they have among all feature bits.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RingFeatures: u64 {
        /// VIRTIO_F_RING_INDIRECT_DESC: a descriptor may stand for a table of them (§2.7.5.3).
        const INDIRECT_DESC = 1 << 28;
        /// VIRTIO_F_RING_EVENT_IDX: each side says at which index it wants to be told (§2.7.7, §2.7.10).
        const EVENT_IDX = 1 << 29;
    }
}

/// VIRTQ_AVAIL_F_NO_INTERRUPT (§2.7.6).
const NO_INTERRUPT: u16 = 1;
/// Where a ring's index and its entries lie; the flags come first (§2.7.6, §2.7.8).
const INDEX: u64 = 2;
const ENTRIES: u64 = 4;
const AVAILABLE_ENTRY_BYTES: u64 = 2;
const USED_ENTRY_BYTES: u64 = 8;

/// Whether the driver wants an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Notify {
    /// It does.
    Wanted,
    /// It does not.
    Unwanted,
}

/// What a driver wrote of a queue: claims, checked when the queue is to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Setup {
    /// Descriptors.
    pub size: u32,
    /// Guest-physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest-physical address of the driver's area: the available ring.
    pub driver: u64,
    /// Guest-physical address of the device's area: the used ring.
    pub device: u64,
}

impl Setup {
    /// The rings, where size and alignments are legal (§2.7).
    fn rings(&self, features: RingFeatures) -> Option<Rings> {
        let aligned = |raw, bytes| GuestPhys::new(raw).filter(|at| at.is_aligned(bytes));
        let size = u16::try_from(self.size).ok()?;
        (size.is_power_of_two() && size <= MAX_SIZE).then_some(Rings {
            size,
            descriptors: aligned(self.descriptors, 16)?,
            driver: aligned(self.driver, 2)?,
            device: aligned(self.device, 4)?,
            features,
            next_available: Wrapping(0),
            next_used: Wrapping(0),
        })
    }
}

/// Where the rings lie, and how far the device got.
#[derive(Clone, Copy, Debug)]
struct Rings {
    /// A power of two.
    size: u16,
    descriptors: GuestPhys,
    driver: GuestPhys,
    device: GuestPhys,
    features: RingFeatures,
    next_available: Wrapping<u16>,
    next_used: Wrapping<u16>,
}

/// One virtqueue. Does nothing until it was started.
#[derive(Debug)]
pub struct Queue {
    rings: Option<Rings>,
    /// The memory of the one chain that a device has in its hands.
    spare: Option<Chain>,
    /// A chain that its device is not done with.
    kept: Option<Chain>,
    /// A chain that its device is done with and the driver does not have yet, with the bytes that were written to it.
    answered: Option<(Chain, u32)>,
}

impl Default for Queue {
    /// A queue that was not started.
    fn default() -> Self {
        Self { rings: None, spare: Some(Chain::default()), kept: None, answered: None }
    }
}

impl Queue {
    /// Starts at index 0 of the rings that the driver claims to have set up. Nothing happens where it cannot, or where it has
    /// started before.
    pub fn start(&mut self, setup: &Setup, features: RingFeatures) {
        self.rings = self.rings.or_else(|| setup.rings(features));
    }

    /// Lets go of the rings, and of a chain that was kept.
    pub fn stop(&mut self) {
        self.rings = None;
        let answered = self.answered.take().map(|(chain, _)| chain);
        self.spare = self.spare.take().or(self.kept.take()).or(answered);
    }

    /// Whether it was started.
    pub const fn is_ready(&self) -> bool {
        self.rings.is_some()
    }

    /// Takes the next chain of buffers, if the driver has made one available. Whoever takes one gives it back by
    /// [`Self::push`] before the next.
    ///
    /// # Errors
    ///
    /// [`Malformed`], with nothing taken.
    pub fn pop<R: GuestRam>(&mut self, ram: &R) -> Result<Option<Chain>, Malformed> {
        let Some(rings) = &mut self.rings else { return Ok(None) };
        if rings.waiting(ram)? == 0 {
            return Ok(None);
        }
        let head = rings.head(ram)?;
        self.spare.get_or_insert_default().follow(ram, &rings.table(), head)?;
        rings.next_available += 1;
        Ok(self.spare.take())
    }

    /// Takes the chain that was kept, or else the next one, as [`Self::pop`].
    ///
    /// # Errors
    ///
    /// As [`Self::pop`].
    pub fn take<R: GuestRam>(&mut self, ram: &R) -> Result<Option<Chain>, Malformed> {
        if self.kept.is_some() { Ok(self.kept.take()) } else { self.pop(ram) }
    }

    /// Keeps a chain that a device is not done with: [`Self::take`] answers it next.
    pub fn keep(&mut self, chain: Chain) {
        self.kept = Some(chain);
    }

    /// Gives the chain back that [`Self::push`] could not, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Self::push`].
    pub fn push_again<R: GuestRam>(&mut self, ram: &R) -> Result<Notify, Malformed> {
        let Some((chain, written_bytes)) = self.answered.take() else { return Ok(Notify::Unwanted) };
        self.push(ram, chain, written_bytes)
    }

    /// Asks the driver to tell of the next chain (§2.7.10). Returns whether there is one already.
    ///
    /// # Errors
    ///
    /// [`Malformed`]; the queue must not be used any more.
    pub fn arm<R: GuestRam>(&mut self, ram: &R) -> Result<bool, Malformed> {
        let Some(rings) = &self.rings else { return Ok(false) };
        if rings.features.contains(RingFeatures::EVENT_IDX) {
            let event = rings.used_entry(rings.size)?;
            write_u16(ram, event, rings.next_available.0)?;
            // The driver publishes its index and then looks at ours: one of the two sees the other's.
            fence(Ordering::SeqCst);
        }
        Ok(rings.waiting(ram)? != 0)
    }

    /// Gives a chain back, with so many bytes written from the start of its writable part (§2.7.8).
    ///
    /// # Errors
    ///
    /// [`Malformed`]: the driver sees nothing of it, and the chain is kept for [`Self::push_again`].
    pub fn push<R: GuestRam>(
        &mut self,
        ram: &R,
        chain: Chain,
        written_bytes: u32,
    ) -> Result<Notify, Malformed> {
        match self.publish(ram, chain.head(), written_bytes) {
            Ok(notify) => {
                self.spare = Some(chain);
                Ok(notify)
            }
            Err(malformed) => {
                self.answered = Some((chain, written_bytes));
                Err(malformed)
            }
        }
    }

    fn publish<R: GuestRam>(&mut self, ram: &R, head: u16, written_bytes: u32) -> Result<Notify, Malformed> {
        let Some(rings) = &mut self.rings else { return Ok(Notify::Unwanted) };
        let element = u64::from(written_bytes) << 32 | u64::from(head);
        let before = rings.next_used;
        ram.write(rings.used_entry(before.0 & (rings.size - 1))?, &element.to_le_bytes())?;
        // Whoever sees the index sees the entry.
        fence(Ordering::Release);
        write_u16(ram, further(rings.device, INDEX)?, (before + Wrapping(1)).0)?;
        rings.next_used = before + Wrapping(1);
        // The driver says what it wants and then looks at the index: one of the two sees the other's.
        fence(Ordering::SeqCst);
        // What it wants cannot fail any more, as the driver has the chain. Where it says nothing, an interrupt does no harm.
        let is_wanted = if rings.features.contains(RingFeatures::EVENT_IDX) {
            let event = rings.available_entry(rings.size).and_then(|at| read_u16(ram, at));
            event.map_or(true, |event| event == before.0)
        } else {
            read_u16(ram, rings.driver).map_or(true, |flags| flags & NO_INTERRUPT == 0)
        };
        Ok(if is_wanted { Notify::Wanted } else { Notify::Unwanted })
    }
}

impl Rings {
    /// Chains that the driver has made available and the device has not taken.
    fn waiting<R: GuestRam>(&self, ram: &R) -> Result<u16, Malformed> {
        let index = Wrapping(read_u16(ram, further(self.driver, INDEX)?)?);
        let waiting = (index - self.next_available).0;
        if waiting > self.size { Err(Malformed::IndexAhead(waiting)) } else { Ok(waiting) }
    }

    /// The first descriptor of the next chain.
    fn head<R: GuestRam>(&self, ram: &R) -> Result<u16, Malformed> {
        // The entry is read after the index that covers it.
        fence(Ordering::Acquire);
        read_u16(ram, self.available_entry(self.next_available.0 & (self.size - 1))?)
    }

    /// Entry `n` of the available ring; past the last one lies used_event.
    fn available_entry(&self, n: u16) -> Result<GuestPhys, Malformed> {
        further(self.driver, ENTRIES + AVAILABLE_ENTRY_BYTES * u64::from(n))
    }

    /// Entry `n` of the used ring; past the last one lies avail_event.
    fn used_entry(&self, n: u16) -> Result<GuestPhys, Malformed> {
        further(self.device, ENTRIES + USED_ENTRY_BYTES * u64::from(n))
    }

    fn table(&self) -> chain::Table {
        let indirect = if self.features.contains(RingFeatures::INDIRECT_DESC) {
            chain::Indirect::Allowed
        } else {
            chain::Indirect::NotNegotiated
        };
        chain::Table { at: self.descriptors, len: u32::from(self.size), indirect }
    }
}

fn further(at: GuestPhys, bytes: u64) -> Result<GuestPhys, Malformed> {
    at.checked_add(bytes).ok_or(Malformed::OutsideMemory(at.raw()))
}

fn read_u16<R: GuestRam>(ram: &R, at: GuestPhys) -> Result<u16, Malformed> {
    let mut bytes = [0; 2];
    ram.read(at, &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

fn write_u16<R: GuestRam>(ram: &R, at: GuestPhys, value: u16) -> Result<(), Malformed> {
    Ok(ram.write(at, &value.to_le_bytes())?)
}
