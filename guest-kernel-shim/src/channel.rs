//! Channels to other guests: shared pages, and a doorbell in each direction.
//!
//! A cooperative guest maps the pages by MAP and binds the peer's doorbell to an event. A full guest has a device at
//! fixed ports, similar to ivshmem, with the address of the pages, a doorbell register, and an interrupt vector.
//!
//! ```
//! use guest_kernel_shim::channel::{Channel, Endpoint, Side};
//!
//! /// Sends a number to the guest at the other end of channel 0, and returns its answer.
//! fn ask(question: u64) -> Option<u64> {
//!     let channel = Channel::open(0).ok()?;
//!     let mut peer = Endpoint::<1>::connect(channel, Side::First, 1_000_000_000).ok()?;
//!     peer.send(&[question]).ok()?;
//!     let [answer] = peer.receive().ok()?;
//!     Some(answer)
//! }
//!
//! // This example runs on a machine without channels.
//! assert_eq!(ask(1), None);
//! ```

mod device;
mod endpoint;

use crate::arch::shared::Pages;
use crate::call::{self, Code, Info};
use crate::interrupt::{self, Handler};
use crate::platform::{Mode, mode};
use crate::{event, smp};

pub use endpoint::{Endpoint, NotConnected};

/// The first event of channels: channel `n` has event `EVENT_FIRST + n`.
const EVENT_FIRST: u8 = 16;
/// How many channels can have an event and a vector.
const MOST: u8 = 32;

/// Why a channel cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoChannel {
    /// This guest has no channel of that number.
    NoSuchChannel,
    /// The hypervisor refused.
    Refused(Code),
    /// This kernel cannot address the channel's pages.
    OutOfReach,
}

/// The half of the pages that this end sends on; the two ends must differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// This end sends on the first half.
    First,
    /// This end sends on the second half.
    Second,
}

/// A channel that this kernel has opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channel {
    number: u8,
    pages: Pages,
}

/// How many channels this guest has.
pub fn count() -> u8 {
    let count = match mode() {
        Mode::Cooperative => call::info(Info::CHANNELS).unwrap_or(0),
        Mode::Full => u64::from(device::count()),
        Mode::Bare => 0,
    };
    u8::try_from(count).unwrap_or(MOST).min(MOST)
}

impl Channel {
    /// Opens the channel with this number; the configuration lists the guest's channels in order.
    ///
    /// # Errors
    ///
    /// There is no such channel, or its pages cannot be mapped.
    pub fn open(number: u8) -> Result<Self, NoChannel> {
        if number >= count() {
            return Err(NoChannel::NoSuchChannel);
        }
        let pages = if mode() == Mode::Cooperative {
            let (pages, _) = call::query(number).map_err(NoChannel::Refused)?;
            let window = call::info(Info::WINDOW_BASE).map_err(NoChannel::Refused)?;
            Pages::place(number, pages, window).map_err(NoChannel::Refused)?
        } else {
            device::pages(number).ok_or(NoChannel::OutOfReach)?
        };
        Ok(Self { number, pages })
    }

    /// How many pages this guest shares with the peer.
    pub fn pages(&self) -> usize {
        self.pages.count()
    }

    /// Whether the peer has bound its end.
    pub fn is_peer_there(&self) -> bool {
        match mode() {
            Mode::Cooperative => call::query(self.number).is_ok_and(|(_, bound)| bound),
            Mode::Full | Mode::Bare => device::is_peer_there(self.number),
        }
    }

    /// Makes the peer's doorbell run `handler` on this processor.
    ///
    /// # Errors
    ///
    /// The hypervisor refuses to bind the doorbell.
    pub fn listen(&self, handler: Handler) -> Result<(), NoChannel> {
        if mode() == Mode::Cooperative {
            let event = EVENT_FIRST + self.number;
            event::handle(event, handler);
            let vcpu = u8::try_from(smp::this()).unwrap_or(0);
            call::bind(self.number, vcpu, event).map_err(NoChannel::Refused)
        } else {
            let vector = interrupt::CHANNEL_FIRST + self.number;
            interrupt::handle(vector, handler);
            device::listen(self.number, vector);
            Ok(())
        }
    }

    /// Rings the doorbell at the peer.
    #[inline]
    pub fn ring(&self) {
        match mode() {
            Mode::Cooperative => {
                call::ring(self.number);
            }
            Mode::Full | Mode::Bare => device::ring(self.number),
        }
    }
}
