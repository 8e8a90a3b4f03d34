//! One end of a channel between two guests.

use crate::base::id::GuestId;
use crate::policy::vcpu_shared::SharedFrames;
use core::sync::atomic::AtomicU32;

/// One end of a channel.
#[derive(Debug)]
pub struct ChannelEnd {
    /// The shared pages.
    pub frames: SharedFrames,
    /// Whose the other end is, and which of its channels.
    pub peer: (GuestId, u8),
    /// What the peer's doorbell sets here: bit 16 valid, bits 15:8 event (or vector in full mode), bits 7:0 vCPU.
    pub bound: AtomicU32,
}
