//! Channels of a full guest, as ivshmem gives them: shared pages, a doorbell, an interrupt.
//!
//! Channel n has 16 bytes of ports from 0xC100 + 16 n: at 0 the low 32 bits of its page number, at 4 its number of pages in bits
//! 15:0 and whether the peer is present in bit 31, at 8 (write) the doorbell, at 12 the vector that the peer's doorbell
//! raises (0 to 15: none). Port 0xC0F0 holds the number of channels. A guest without channels has no such ports.

use crate::base::addr::{GuestPhys, PAGE_BYTES, low};
use crate::base::id::MAX_CHANNELS;
use crate::device::lapic::LOWEST_LEGAL_VECTOR;
use alloc::vec::Vec;

/// The port that holds the number of channels.
pub const COUNT: u16 = 0xC0F0;
/// First port of channel 0.
pub const FIRST: u16 = 0xC100;
/// Number of ports of one channel.
pub const PORTS: u16 = 16;
/// First port after the last possible channel.
pub const END: u16 = FIRST + MAX_CHANNELS * PORTS;

const PEER_PRESENT: u32 = 1 << 31;
const DOORBELL: u16 = 8;
const VECTOR: u16 = 12;

/// Index of a channel among its guest's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ChannelIndex(pub u16);

/// Whether a guest runs at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// A guest runs at the other end.
    Present,
    /// The guest at the other end has ended or was not started.
    Absent,
}

/// Location of a channel's pages.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// Address of the first page.
    pub at: GuestPhys,
    /// Number of pages.
    pub pages: u16,
}

#[derive(Clone, Debug)]
struct Channel {
    placement: Placement,
    peer: Peer,
    vector: u8,
}

/// All channels of one guest.
#[derive(Clone, Debug)]
pub struct Channels {
    channels: Vec<Channel>,
}

impl Channels {
    /// Returns the ports of the first [`MAX_CHANNELS`] placements, with all peers absent.
    pub fn new(placements: &[Placement]) -> Self {
        let channel = |&placement: &Placement| Channel { placement, peer: Peer::Absent, vector: 0 };
        Self { channels: placements.iter().take(usize::from(MAX_CHANNELS)).map(channel).collect() }
    }

    /// Sets whether a guest runs at the other end.
    pub fn set_peer(&mut self, index: ChannelIndex, peer: Peer) {
        if let Some(channel) = self.channels.get_mut(usize::from(index.0)) {
            channel.peer = peer;
        }
    }

    /// Clears all vectors, after the guest has ended: no doorbell raises an interrupt here.
    pub fn hang_up(&mut self) {
        self.channels.iter_mut().for_each(|channel| channel.vector = 0);
    }

    /// Returns the vector that the peer's doorbell raises, 16 … 255, if the guest has set one.
    pub fn vector(&self, index: ChannelIndex) -> Option<u8> {
        let channel = self.channels.get(usize::from(index.0))?;
        (channel.vector >= LOWEST_LEGAL_VECTOR).then_some(channel.vector)
    }

    /// Reads a byte of [`COUNT`] or of a channel's ports.
    pub fn read(&self, port: u16) -> u8 {
        let Some((channel, register)) = self.at(port) else {
            let count = u32::try_from(self.channels.len()).unwrap_or(0).to_le_bytes();
            return match port.checked_sub(COUNT) {
                Some(byte @ 0..4) if !self.channels.is_empty() => count[usize::from(byte & 3)],
                _ => 0xFF,
            };
        };
        let value = match register & !3 {
            0 => low(channel.placement.at.raw() / PAGE_BYTES),
            4 => {
                u32::from(channel.placement.pages)
                    | if channel.peer == Peer::Present { PEER_PRESENT } else { 0 }
            }
            VECTOR => u32::from(channel.vector),
            _ => 0,
        };
        value.to_le_bytes()[usize::from(register & 3)]
    }

    /// Writes a byte. Returns the channel whose doorbell it rang.
    pub fn write(&mut self, port: u16, value: u8) -> Option<ChannelIndex> {
        let (index, register) = place(port)?;
        let channel = self.channels.get_mut(usize::from(index.0))?;
        match register {
            DOORBELL => return Some(index),
            VECTOR => channel.vector = value,
            _ => {}
        }
        None
    }

    fn at(&self, port: u16) -> Option<(&Channel, u16)> {
        let (index, register) = place(port)?;
        Some((self.channels.get(usize::from(index.0))?, register))
    }
}

/// Returns the channel and the register offset of a port.
fn place(port: u16) -> Option<(ChannelIndex, u16)> {
    (FIRST..END).contains(&port).then(|| (ChannelIndex((port - FIRST) / PORTS), (port - FIRST) % PORTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Channels {
        let at = |raw, pages| Placement { at: GuestPhys::new(raw).unwrap(), pages };
        Channels::new(&[at(0x1_2345_6000, 2), at(0x8000_0000, 64)])
    }

    fn read(channels: &Channels, port: u16) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|n| channels.read(port + n)))
    }

    #[test]
    fn a_guest_without_channels_sees_none() {
        let mut none = Channels::new(&[]);
        for port in COUNT..END {
            assert_eq!(none.read(port), 0xFF, "{port:#x}");
            assert_eq!(none.write(port, 1), None, "{port:#x}");
        }
    }

    #[test]
    fn a_guest_finds_its_channels() {
        let mut channels = two();
        assert_eq!(read(&channels, COUNT), 2);
        assert_eq!(read(&channels, 0xC100), 0x12_3456);
        assert_eq!(read(&channels, 0xC114), 64);
        channels.set_peer(ChannelIndex(1), Peer::Present);
        assert_eq!((read(&channels, 0xC104), read(&channels, 0xC114)), (2, 0x8000_0040));
        channels.set_peer(ChannelIndex(1), Peer::Absent);
        assert_eq!(read(&channels, 0xC114), 64);
        assert_eq!(read(&channels, 0xC120), u32::MAX, "there is no third");
    }

    #[test]
    fn only_the_first_byte_of_the_doorbell_rings() {
        let mut channels = two();
        for port in COUNT..END {
            let rung =
                (port == 0xC108).then_some(ChannelIndex(0)).or((port == 0xC118).then_some(ChannelIndex(1)));
            assert_eq!(channels.write(port, 0), rung, "{port:#x}");
        }
    }

    #[test]
    fn the_vector_is_the_guests_and_none_below_16() {
        let mut channels = two();
        assert_eq!(channels.vector(ChannelIndex(1)), None);
        assert_eq!(channels.write(0xC11C, 0x41), None);
        assert_eq!((channels.vector(ChannelIndex(1)), read(&channels, 0xC11C)), (Some(0x41), 0x41));
        assert_eq!(channels.vector(ChannelIndex(0)), None);
        assert_eq!(channels.write(0xC11C, 15), None);
        assert_eq!(channels.vector(ChannelIndex(1)), None);
        assert_eq!(channels.vector(ChannelIndex(2)), None);
    }

    #[test]
    fn who_is_gone_is_not_rung() {
        let mut channels = two();
        assert_eq!(channels.write(0xC11C, 0x41), None);
        channels.hang_up();
        assert_eq!((channels.vector(ChannelIndex(1)), read(&channels, 0xC11C)), (None, 0));
    }
}
