//! A network card (§5.1) without offloads, at a port of a [`Switch`].

#[cfg(test)]
mod tests;

use super::io::{Answer, Io, Turn};
use super::queue::{Chain, Malformed};
use super::switch::{MAX_FRAME_BYTES, Port, Ports, Switch};
use super::{CONFIG_BYTES, config_of};
use crate::base::hardware::GuestRam;

/// The card's number among devices.
pub const ID: u32 = 1;
/// Virtqueues: one pair (§5.1.2).
pub const QUEUES: usize = 2;
/// The queue whose buffers take what comes in.
pub const RECEIVE: u16 = 0;
/// The queue whose buffers go out.
pub const TRANSMIT: u16 = 1;

/// VIRTIO_NET_F_MAC: the address is in the configuration space (§5.1.3).
pub const F_MAC: u64 = 1 << 5;

/// Before each frame (§5.1.6): nothing is left for the device or the driver to compute, and the frame lies in one buffer.
const HEADER: [u8; HEADER_BYTES as usize] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const HEADER_BYTES: u32 = 12;

/// A network card.
#[derive(Debug)]
pub struct Net {
    mac: [u8; 6],
    switch: &'static Switch,
    port: Port,
}

impl Net {
    /// A card with this address. Nobody else is at the port.
    pub const fn new(mac: [u8; 6], switch: &'static Switch, port: Port) -> Self {
        Self { mac, switch, port }
    }

    /// The port that it is at.
    #[cfg(test)]
    pub const fn port(&self) -> Port {
        self.port
    }

    /// Forgets the frames that wait for this card: they were for another life.
    pub fn discard(&self) {
        self.switch.clear(self.port);
    }

    pub(super) fn config(&self) -> [u8; CONFIG_BYTES] {
        config_of(&[(0, &self.mac)])
    }

    /// Frames go in and out by turns, so that neither side can keep the other from its work.
    pub(super) fn serve<R: GuestRam>(
        &mut self,
        io: &mut Io<'_, R>,
        mut wake: impl FnMut(Ports),
    ) -> Result<(), Malformed> {
        let mut is_busy = true;
        while is_busy {
            is_busy = self.switch.has_frame(self.port)
                && io.answer(RECEIVE, |io, chain| self.receive(io, chain))? == Turn::Answered;
            is_busy |=
                io.answer(TRANSMIT, |io, chain| self.transmit(io, chain, &mut wake))? == Turn::Answered;
        }
        Ok(())
    }

    /// The frame stays in the inbox until the driver has it.
    fn receive<R: GuestRam>(&mut self, io: &Io<'_, R>, chain: &Chain) -> Result<Answer, Malformed> {
        let mut frame = [0; MAX_FRAME_BYTES];
        let Some(len) = self.switch.first(self.port, &mut frame) else { return Ok(Answer::Done(0)) };
        let frame = frame.get(..len).unwrap_or_default();
        let needed = HEADER_BYTES + u32::try_from(len).unwrap_or(0);
        let written = if chain.writable_bytes() < needed {
            0 // too small a buffer: the frame is dropped
        } else {
            chain.write(io.ram(), 0, &HEADER)?;
            chain.write(io.ram(), HEADER_BYTES, frame)?;
            needed
        };
        self.switch.drop_first(self.port);
        Ok(Answer::Done(written))
    }

    /// The driver's header asks for nothing: it may not, as nothing was offered (§5.1.6.2).
    fn transmit<R: GuestRam>(
        &self,
        io: &mut Io<'_, R>,
        chain: &Chain,
        wake: &mut impl FnMut(Ports),
    ) -> Result<Answer, Malformed> {
        let len = chain.readable_bytes().checked_sub(HEADER_BYTES);
        let len = len.ok_or(Malformed::TooShort(chain.head()))?;
        let mut frame = [0; MAX_FRAME_BYTES];
        let reached = match usize::try_from(len).ok().and_then(|len| frame.get_mut(..len)) {
            Some(frame) => {
                chain.read(io.ram(), HEADER_BYTES, frame)?;
                self.switch.send(self.port, frame)
            }
            None => Ports::NONE,
        };
        // A frame is one port's, or it is everybody's.
        io.charge(reached.count() * MAX_FRAME_BYTES);
        wake(reached);
        Ok(Answer::Done(0))
    }
}
