//! An Ethernet switch between guests. IEEE 802.1D-2004, §7.
//!
//! It learns where stations are from what they send. A guest can claim to be another station, as on any wire; what it
//! cannot do is fill the table of stations for others, or an inbox with more than it holds. Processors share it: no lock is
//! taken while another is held.

mod inbox;
mod stations;
#[cfg(test)]
mod tests;

use crate::base::lock::{Lock, Rank};
use alloc::boxed::Box;
#[cfg(test)]
pub use inbox::INBOX_FRAMES;
use inbox::Inbox;
use stations::Stations;

/// Most ports of a switch.
pub const MAX_PORTS: u8 = 64;
/// Bytes of the shortest frame that is passed on: two addresses and a type.
pub const MIN_FRAME_BYTES: usize = 14;
/// Bytes of the longest one, without a checksum.
pub const MAX_FRAME_BYTES: usize = 1514;

/// A port of a switch, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Port(pub u8);

/// Some ports of a switch: bit n stands for port n.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "whoever waits at these ports is to be woken"]
pub struct Ports(pub u64);

impl Ports {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// How many they are.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether `port` is among them.
    pub fn contains(self, port: Port) -> bool {
        self.0 & bit(port.0) != 0
    }
}

/// An Ethernet address.
type Mac = [u8; 6];

/// A group's address, or everybody's.
const fn is_group(mac: Mac) -> bool {
    mac[0] & 1 != 0
}

/// A switch.
#[derive(Debug)]
pub struct Switch {
    /// By port.
    inboxes: Box<[Lock<Inbox>]>,
    stations: Lock<Stations>,
}

impl Switch {
    /// A switch of so many ports, at most [`MAX_PORTS`]. All memory that it will use is taken now: some 100 KiB a port.
    pub fn new(ports: u8) -> Self {
        let ports = ports.min(MAX_PORTS);
        Self {
            inboxes: (0..ports).map(|_| Lock::new(Rank::Leaf, Inbox::new())).collect(),
            stations: Lock::new(Rank::Leaf, Stations::new(ports)),
        }
    }

    /// Sends a frame from a port. Returns the ports that got it; where an inbox is full it is lost, and everywhere if it is
    /// too short or too long.
    pub fn send(&self, from: Port, frame: &[u8]) -> Ports {
        let is_sound = self.inbox(from).is_some() && frame.len() <= MAX_FRAME_BYTES;
        let Some((destination, source)) = addresses(frame).filter(|_| is_sound) else { return Ports::NONE };
        let to = {
            let mut stations = self.stations.lock();
            if !is_group(source) {
                stations.learn(source, from.0);
            }
            if is_group(destination) { None } else { stations.port_of(destination) }
        };
        let mut reached = Ports::NONE;
        for (inbox, port) in self.inboxes.iter().zip(0..) {
            let is_meant = to.is_none_or(|to| to == port) && port != from.0;
            if is_meant && inbox.lock().push(frame) {
                reached.0 |= bit(port);
            }
        }
        reached
    }

    /// Whether a frame waits at a port.
    pub fn has_frame(&self, port: Port) -> bool {
        self.inbox(port).is_some_and(|inbox| !inbox.lock().is_empty())
    }

    /// Copies the first frame that waits at a port. Returns its length. It stays the first until [`Self::drop_first`].
    pub fn first(&self, port: Port, into: &mut [u8; MAX_FRAME_BYTES]) -> Option<usize> {
        self.inbox(port)?.lock().first(into)
    }

    /// Drops the first frame that waits at a port. Whoever is there is the only one to do so.
    pub fn drop_first(&self, port: Port) {
        if let Some(inbox) = self.inbox(port) {
            inbox.lock().drop_first();
        }
    }

    /// Takes the first frame that waits at a port. Returns its length.
    #[cfg(test)]
    pub fn receive(&self, port: Port, into: &mut [u8; MAX_FRAME_BYTES]) -> Option<usize> {
        let len = self.first(port, into)?;
        self.drop_first(port);
        Some(len)
    }

    /// Forgets what waits at a port: who was there begins anew.
    pub fn clear(&self, port: Port) {
        if let Some(inbox) = self.inbox(port) {
            inbox.lock().clear();
        }
    }

    fn inbox(&self, port: Port) -> Option<&Lock<Inbox>> {
        self.inboxes.get(usize::from(port.0))
    }
}

/// Destination and source of a frame that is long enough.
fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    let (destination, rest) = frame.split_first_chunk()?;
    let (source, _) = rest.split_first_chunk()?;
    (frame.len() >= MIN_FRAME_BYTES).then_some((*destination, *source))
}

fn bit(port: u8) -> u64 {
    1_u64.checked_shl(u32::from(port)).unwrap_or(0)
}
