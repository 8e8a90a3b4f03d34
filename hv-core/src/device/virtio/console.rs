//! A console of one port (§5.3): bytes in, bytes out.

#[cfg(test)]
mod tests;

use super::io::{Answer, Io, Turn};
use super::queue::{Chain, Malformed};
use super::{CONFIG_BYTES, DeviceHost, config_of};
use crate::base::hardware::GuestRam;
use alloc::collections::VecDeque;

/// The console's number among devices.
pub const ID: u32 = 3;
/// Virtqueues of port 0.
pub const QUEUES: usize = 2;
/// The queue whose buffers the guest hears by (§5.3.2: receiveq of port 0).
pub const RECEIVE: u16 = 0;
/// The queue whose buffers the guest speaks by (§5.3.2: transmitq of port 0).
pub const TRANSMIT: u16 = 1;

/// Bytes that wait for the guest; more waits outside.
pub const RECEIVED_BYTES: usize = 256;
/// Bytes that are said in one step: they go out by a serial line, one after the other.
const PART_BYTES: usize = 256;

/// The configuration space: of one port, with the size unknown (§5.3.4).
pub fn config() -> [u8; CONFIG_BYTES] {
    const MAX_NR_PORTS: usize = 4;
    config_of(&[(MAX_NR_PORTS, &1_u32.to_le_bytes())])
}

/// A console.
#[derive(Debug)]
pub struct Console {
    received: VecDeque<u8>,
    /// Bytes that have been said of what the guest is saying.
    said: u32,
}

impl Default for Console {
    /// A console that has heard nothing.
    fn default() -> Self {
        Self { received: VecDeque::with_capacity(RECEIVED_BYTES), said: 0 }
    }
}

impl Console {
    /// Hands in a byte from outside. Returns whether it was taken; one that was not is offered again later.
    pub fn receive(&mut self, byte: u8) -> bool {
        let taken = self.has_room();
        if taken {
            self.received.push_back(byte);
        }
        taken
    }

    /// Whether [`Console::receive`] would take a byte.
    pub fn has_room(&self) -> bool {
        self.received.len() < RECEIVED_BYTES
    }

    /// What was typed for an earlier life is not for the next.
    pub(super) fn power_on(&mut self) {
        self.received.clear();
    }

    pub(super) fn forget(&mut self, index: u16) {
        if index == TRANSMIT {
            self.said = 0;
        }
    }

    pub(super) fn serve<R: GuestRam>(
        &mut self,
        io: &mut Io<'_, R>,
        host: &mut impl DeviceHost,
    ) -> Result<(), Malformed> {
        self.hear(io)?;
        self.say(io, host)
    }

    fn hear<R: GuestRam>(&mut self, io: &mut Io<'_, R>) -> Result<(), Malformed> {
        while !self.received.is_empty()
            && io.answer(RECEIVE, |io, chain| self.fill(io, chain))? == Turn::Answered
        {}
        Ok(())
    }

    fn fill<R: GuestRam>(&mut self, io: &Io<'_, R>, chain: &Chain) -> Result<Answer, Malformed> {
        let (first, second) = self.received.as_slices();
        let mut room = usize::try_from(chain.writable_bytes()).unwrap_or(usize::MAX);
        let mut written = 0;
        for part in [first, second] {
            let part = part.get(..part.len().min(room)).unwrap_or_default();
            chain.write(io.ram(), written, part)?;
            room -= part.len();
            written += count(part);
        }
        self.received.drain(..usize::try_from(written).unwrap_or(0));
        Ok(Answer::Done(written))
    }

    fn say<R: GuestRam>(&mut self, io: &mut Io<'_, R>, host: &mut impl DeviceHost) -> Result<(), Malformed> {
        let mut left = PART_BYTES;
        while io.answer(TRANSMIT, |io, chain| self.pass_on(io, chain, host, &mut left))? == Turn::Answered {}
        Ok(())
    }

    /// Says what `left` has room for.
    fn pass_on<R: GuestRam>(
        &mut self,
        io: &mut Io<'_, R>,
        chain: &Chain,
        host: &mut impl DeviceHost,
        left: &mut usize,
    ) -> Result<Answer, Malformed> {
        while self.said < chain.readable_bytes() {
            let rest = usize::try_from(chain.readable_bytes() - self.said).unwrap_or(usize::MAX);
            let mut part = [0; PART_BYTES];
            let part = part.get_mut(..io.grant(rest.min(*left))).unwrap_or_default();
            chain.read(io.ram(), self.said, part)?;
            if part.is_empty() || !host.console(part) {
                return Ok(Answer::Later);
            }
            *left -= part.len();
            self.said += count(part);
        }
        self.said = 0;
        Ok(Answer::Done(0))
    }
}

/// Bytes of a part that fits a chain.
fn count(part: &[u8]) -> u32 {
    u32::try_from(part.len()).unwrap_or(u32::MAX)
}
