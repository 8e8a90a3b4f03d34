//! One end of a channel between two guests.

use crate::base::id::GuestId;
use crate::policy::vcpu_shared::SharedFrames;
use core::sync::atomic::AtomicU32;

/// One end of a channel.
#[derive(Debug)]
pub struct ChannelEnd {
    /// The shared pages.
    pub frames: SharedFrames,
    /// The guest at the other end, and the number of that end among the guest's channels.
    pub peer: (GuestId, u8),
    /// The event that the peer's doorbell sets at this end: bit 16 valid, bits 15:8 event (or vector in full mode), bits 7:0 vCPU.
    pub bound: AtomicU32,
}
