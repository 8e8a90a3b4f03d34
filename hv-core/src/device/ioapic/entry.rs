//! A redirection entry (82093AA §3.2.4), which translates an input to a message.

use super::{Destination, EntryDelivery, Message, Trigger};
use crate::base::addr::low;
use bitflags::bitflags;

bitflags! {
    /// What a guest writes; the reserved bits and the two read-only ones, 12 and 14, are not kept here.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct Entry: u64 {
        const VECTOR = 0xFF;
        const DELIVERY = 7 << 8;
        const LOGICAL = 1 << 11;
        /// Polarity, without effect: callers set an input as asserted or not.
        const ACTIVE_LOW = 1 << 13;
        const LEVEL = 1 << 15;
        const MASKED = 1 << 16;
        const DESTINATION = 0xFF << 56;
    }
}

/// Remote IRR, read-only: a level was sent, and its end is not reported yet.
pub(super) const REMOTE_IRR: u32 = 1 << 14;

/// A register of an entry: the half of its bits from this one on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Half {
    Low = 0,
    High = 32,
}

impl Entry {
    /// One half, as written.
    pub(super) const fn half(self, half: Half) -> u32 {
        low(self.bits() >> half as u32)
    }

    /// Returns the entry after a write to one half.
    pub(super) fn with_half(self, half: Half, value: u32) -> Self {
        let kept = self.bits() & !(u64::from(u32::MAX) << half as u32);
        Self::from_bits_truncate(kept | u64::from(value) << half as u32)
    }

    pub(super) const fn vector(self) -> u8 {
        self.bits().to_le_bytes()[0]
    }

    const fn delivery_mode(self) -> u8 {
        self.bits().to_le_bytes()[1] & 7
    }

    const fn destination(self) -> u8 {
        self.bits().to_le_bytes()[7]
    }

    /// How the input is looked at. Only a vector can be level-triggered: NMI and INIT are edges whatever bit 15 says, and SMI and
    /// ExtINT are to be programmed so.
    pub(super) const fn trigger(self) -> Trigger {
        match self.delivery_mode() {
            0 | 1 if self.contains(Self::LEVEL) => Trigger::Level,
            _ => Trigger::Edge,
        }
    }

    /// Returns the vector for whose end this entry may wait.
    pub(super) const fn level_vector(self) -> Option<u8> {
        match self.trigger() {
            Trigger::Level => Some(self.vector()),
            Trigger::Edge => None,
        }
    }

    /// Returns the delivery of the message; `None` for SMI, which no guest here has, and for the reserved modes.
    pub(super) const fn message(self) -> Option<Message> {
        let delivery = match self.delivery_mode() {
            0 => EntryDelivery::Fixed(self.vector()),
            1 => EntryDelivery::LowestPriority(self.vector()),
            4 => EntryDelivery::Nmi,
            5 => EntryDelivery::Init,
            7 => EntryDelivery::ExtInt,
            _ => return None,
        };
        let to = if self.contains(Self::LOGICAL) {
            Destination::Logical(self.destination())
        } else {
            Destination::Physical(self.destination())
        };
        Some(Message { to, delivery, trigger: self.trigger() })
    }
}
