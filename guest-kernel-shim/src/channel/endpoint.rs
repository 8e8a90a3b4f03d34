//! One end of a channel that carries records in both directions: a ring in each half of its pages.

use super::{Channel, NoChannel, Side};
use crate::{clock, idle, timer};
use ring_buffers::records::{Consumer, Producer};
use ring_buffers::{AttachError, Region, RingError, Wait};

/// How often [`Endpoint::connect`] looks for the peer's ring, in ns.
const LOOK_EVERY_NS: u64 = 100_000;

/// Why the two ends did not connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotConnected {
    /// The channel cannot be used.
    Channel(NoChannel),
    /// This end's ring could not be created.
    Ring(AttachError),
    /// The peer created no matching ring in time.
    Peer(AttachError),
}

/// Sends records of `N` words to the peer and receives them from it.
#[derive(Debug)]
pub struct Endpoint<const N: usize> {
    channel: Channel,
    out: Producer<Region, N>,
    input: Consumer<Region, N>,
}

impl<const N: usize> Endpoint<N> {
    /// Creates this end's ring and waits up to `patience_ns` for the peer's.
    ///
    /// # Errors
    ///
    /// The channel cannot be used, or one of the two rings could not be created or found.
    pub fn connect(channel: Channel, side: Side, patience_ns: u64) -> Result<Self, NotConnected> {
        let half = |side: Side| {
            let out_of_reach = NotConnected::Channel(NoChannel::OutOfReach);
            channel.pages.half(side == Side::Second).ok_or(out_of_reach)
        };
        let (mine, theirs) = match side {
            Side::First => (side, Side::Second),
            Side::Second => (side, Side::First),
        };
        channel.listen(|| ()).map_err(NotConnected::Channel)?;
        let out = Producer::create(half(mine)?).map_err(NotConnected::Ring)?;
        let until_ns = clock::now_ns().saturating_add(patience_ns);
        loop {
            match Consumer::attach(half(theirs)?) {
                Ok(input) => return Ok(Self { channel, out, input }),
                Err(error) if clock::now_ns() >= until_ns => return Err(NotConnected::Peer(error)),
                Err(_) => timer::sleep_ns(LOOK_EVERY_NS),
            }
        }
    }

    /// Sends a record, and rings the peer's doorbell if it is waiting for one.
    ///
    /// # Errors
    ///
    /// As the ring's push; then nothing is sent.
    #[inline]
    pub fn send(&mut self, record: &[u64; N]) -> Result<(), RingError> {
        if self.out.push(record)?.kick {
            self.channel.ring();
        }
        Ok(())
    }

    /// Takes a record, and rings the peer's doorbell if it is waiting for space.
    ///
    /// # Errors
    ///
    /// As the ring's pop; then nothing is taken.
    #[inline]
    pub fn try_receive(&mut self) -> Result<[u64; N], RingError> {
        let popped = self.input.pop()?;
        if popped.kick {
            self.channel.ring();
        }
        Ok(popped.value)
    }

    /// Takes a record; idles while the ring is empty.
    ///
    /// # Errors
    ///
    /// The ring is corrupt.
    pub fn receive(&mut self) -> Result<[u64; N], RingError> {
        loop {
            match self.try_receive() {
                Err(RingError::Empty) => self.wait()?,
                other => return other,
            }
        }
    }

    /// Idles until the ring has a record; returns at once if it has one.
    fn wait(&mut self) -> Result<(), RingError> {
        if self.input.prepare_to_wait(1)? == Wait::Sleep {
            let input = &mut self.input;
            idle::wait_until(|| input.available() != Ok(0));
        }
        Ok(())
    }
}
