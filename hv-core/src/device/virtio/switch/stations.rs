//! Where stations are: learned from what they send.

use super::Mac;
use alloc::vec::Vec;

/// Stations that a switch knows.
pub const MAX_STATIONS: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Station {
    mac: Mac,
    port: u8,
}

/// Every port has the same share of the table: one that claims to be many stations forgets its own.
#[derive(Debug)]
pub struct Stations {
    /// Those learned first come first.
    known: Vec<Station>,
    share: usize,
}

impl Stations {
    pub fn new(ports: u8) -> Self {
        let share = MAX_STATIONS / usize::from(ports.max(1));
        Self { known: Vec::with_capacity(MAX_STATIONS), share }
    }

    /// The port that a station was last heard at.
    pub fn port_of(&self, mac: Mac) -> Option<u8> {
        self.known.iter().find(|station| station.mac == mac).map(|station| station.port)
    }

    /// A station was heard at a port. It may have been elsewhere before.
    pub fn learn(&mut self, mac: Mac, port: u8) {
        if self.port_of(mac) == Some(port) {
            return;
        }
        self.known.retain(|station| station.mac != mac);
        let mut at_port = self.known.iter().enumerate().filter(|(_, station)| station.port == port);
        let oldest = at_port.next().map(|(n, _)| n);
        let others = at_port.count();
        if let Some(oldest) = oldest.filter(|_| others + 1 >= self.share) {
            self.known.remove(oldest);
        }
        // The shares together are no more than the table.
        if self.known.len() < MAX_STATIONS {
            self.known.push(Station { mac, port });
        }
    }
}
