//! One end of a channel that carries records both ways: a ring in each half of its pages.

use super::{Channel, NoChannel, Side};
use crate::{clock, idle, timer};
use ring_buffers::records::{Consumer, Producer};
use ring_buffers::{AttachError, Region, RingError, Wait};

/// How often the peer's ring is looked for, in ns.
const LOOK_EVERY_NS: u64 = 100_000;

/// Why the two ends did not come together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotConnected {
    /// The channel cannot be used.
    Channel(NoChannel),
    /// This end's ring could not be made.
    Ring(AttachError),
    /// The peer made no ring, or another one, for as long as was waited.
    Peer(AttachError),
}

/// Records of `N` words to the peer and from it.
#[derive(Debug)]
pub struct Endpoint<const N: usize> {
    channel: Channel,
    out: Producer<Region, N>,
    input: Consumer<Region, N>,
}

impl<const N: usize> Endpoint<N> {
    /// Makes this end's ring and waits up to `patience_ns` for the peer's.
    ///
    /// # Errors
    ///
    /// When one of the two rings is not to be had.
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

    /// Sends a record, and wakes the peer if it waits for it.
    ///
    /// # Errors
    ///
    /// As the ring's push; nothing is sent.
    #[inline]
    pub fn send(&mut self, record: &[u64; N]) -> Result<(), RingError> {
        if self.out.push(record)?.kick {
            self.channel.ring();
        }
        Ok(())
    }

    /// Takes a record, and wakes the peer if it waits for room.
    ///
    /// # Errors
    ///
    /// As the ring's pop; nothing is taken.
    #[inline]
    pub fn try_receive(&mut self) -> Result<[u64; N], RingError> {
        let popped = self.input.pop()?;
        if popped.kick {
            self.channel.ring();
        }
        Ok(popped.value)
    }

    /// Takes a record; idles while there is none.
    ///
    /// # Errors
    ///
    /// When the ring is corrupt.
    pub fn receive(&mut self) -> Result<[u64; N], RingError> {
        loop {
            match self.try_receive() {
                Err(RingError::Empty) => self.wait()?,
                other => return other,
            }
        }
    }

    /// Idles until there is a record, and finds nothing to do if one is there already.
    fn wait(&mut self) -> Result<(), RingError> {
        if self.input.prepare_to_wait(1)? == Wait::Sleep {
            let input = &mut self.input;
            idle::wait_until(|| input.available() != Ok(0));
        }
        Ok(())
    }
}
