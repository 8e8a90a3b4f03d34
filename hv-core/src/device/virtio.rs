//! Virtio devices behind memory-mapped registers. Section numbers: Virtual I/O Device (VIRTIO) version 1.2, OASIS, 2022.
//!
//! Owns the device's side of rings and registers. Knows nothing of exits, vCPUs or interrupt controllers: an exit's owner
//! gives register accesses to [`mmio::Transport`], calls [`mmio::Transport::serve`] while there is more to do, and follows
//! [`mmio::Transport::line`]. What lies outside of the guest is [`DeviceHost`].

pub mod balloon;
pub mod block;
pub mod console;
#[cfg(test)]
mod driver;
pub mod entropy;
pub mod io;
pub mod mmio;
pub mod net;
pub mod queue;
pub mod switch;
#[cfg(test)]
mod tests;

use crate::base::hardware::GuestRam;
use balloon::Balloon;
use block::Block;
use console::Console;
use entropy::Entropy;
use io::Io;
use net::Net;
use queue::Malformed;
use switch::Ports;

/// Bytes of a device's configuration space that any of these devices has.
pub const CONFIG_BYTES: usize = 64;

/// What devices reach outside of their guest.
pub trait DeviceHost {
    /// Takes what the guest's console says; false: not now, but later.
    fn console(&mut self, text: &[u8]) -> bool;
    /// Wakes whoever waits for frames at these ports.
    fn wake(&mut self, ports: Ports);
    /// A number that the guest cannot foresee.
    fn random(&mut self) -> u64;
    /// Takes a block of guest memory that is there and that the guest does not use now. It may touch it again at any time from
    /// the end of [`mmio::Transport::serve`] on, and finds anything in it; whoever takes it gives it another one then.
    fn free_block(&mut self, block: u64);
    /// Whether processors may still have translations of the blocks that were taken. What the guest writes could go to one of
    /// them, so it is told that it may use them, and more are given, only when there is nothing to wait for. So no more wait
    /// than one step can give: [`io::STEP_BYTES`] / [`balloon::BLOCK_COST_BYTES`].
    fn shootdown(&mut self) -> ServeProgress;
    /// Memory was touched that is not there, at this guest-physical address. What was taken by [`Self::free_block`] comes back part
    /// by part: this call brings one, [`io::STEP_BYTES`] at most, or none while there is none to be had.
    fn bring_back(&mut self, at: u64) -> Memory;
}

/// What becomes of memory that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Memory {
    /// It comes; whoever needs it tries again in another step.
    Comes,
    /// There was never any.
    None,
}

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum ServeProgress {
    /// There is.
    More,
    /// The device waits for its driver, or for something from outside.
    Done,
}

/// A device, without the registers that all have.
#[derive(Debug)]
pub enum Device {
    /// A disk.
    Block(Block),
    /// A console of one port.
    Console(Console),
    /// A network card.
    Net(Net),
    /// A source of random bytes.
    Entropy(Entropy),
    /// A memory balloon.
    Balloon(Balloon),
}

impl Device {
    /// Its device id (§5) and the number of its queues.
    pub const fn kind(&self) -> (u32, usize) {
        match self {
            Self::Block(_) => (block::ID, block::QUEUES),
            Self::Console(_) => (console::ID, console::QUEUES),
            Self::Net(_) => (net::ID, net::QUEUES),
            Self::Entropy(_) => (entropy::ID, entropy::QUEUES),
            Self::Balloon(_) => (balloon::ID, balloon::QUEUES),
        }
    }

    /// The feature bits of its own that it offers.
    pub const fn features(&self) -> u64 {
        match self {
            Self::Block(block) => block.features(),
            Self::Console(_) | Self::Entropy(_) => 0,
            Self::Net(_) => net::F_MAC,
            Self::Balloon(_) => balloon::F_REPORTING,
        }
    }

    /// Its configuration space; what it does not have reads zero.
    pub fn config(&self) -> [u8; CONFIG_BYTES] {
        match self {
            Self::Block(block) => block.config(),
            Self::Console(_) => console::config(),
            Self::Net(net) => net.config(),
            Self::Entropy(_) => [0; CONFIG_BYTES],
            Self::Balloon(balloon) => balloon.config(),
        }
    }

    /// Takes a write to its configuration space.
    pub fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        match self {
            Self::Balloon(balloon) => balloon.write_config(offset, bytes),
            // Nothing there is the driver's.
            Self::Block(_) | Self::Console(_) | Self::Net(_) | Self::Entropy(_) => {}
        }
    }

    /// Forgets what a driver's reset leaves alone, and what came from outside for an earlier life of the guest.
    pub fn power_on(&mut self) {
        match self {
            Self::Block(block) => block.disk_mut().revert(),
            Self::Console(console) => console.power_on(),
            Self::Net(net) => net.discard(),
            Self::Entropy(Entropy) => {}
            Self::Balloon(balloon) => balloon.power_on(),
        }
    }

    /// Forgets a request of queue `index` that was not finished: the driver takes the queue away.
    pub fn forget(&mut self, index: u16) {
        match self {
            Self::Block(block) => block.forget(index),
            Self::Console(console) => console.forget(index),
            Self::Balloon(balloon) => balloon.forget(index),
            // Nothing of theirs is left half done.
            Self::Net(_) | Self::Entropy(_) => {}
        }
    }

    /// Does the next part of what the driver asks for.
    ///
    /// # Errors
    ///
    /// [`Malformed`]: what the driver asks for is not to be understood.
    pub fn serve<R: GuestRam>(
        &mut self,
        io: &mut Io<'_, R>,
        host: &mut impl DeviceHost,
    ) -> Result<(), Malformed> {
        match self {
            Self::Block(block) => block.serve(io),
            Self::Console(console) => console.serve(io, host),
            Self::Net(net) => net.serve(io, |ports| host.wake(ports)),
            Self::Entropy(_) => Entropy::serve(io, || host.random()),
            Self::Balloon(balloon) => balloon.serve(io, host),
        }
    }
}

/// A configuration space that holds these fields, each at its offset.
fn config_of(fields: &[(usize, &[u8])]) -> [u8; CONFIG_BYTES] {
    let mut config = [0; CONFIG_BYTES];
    for (offset, field) in fields {
        let place = config.get_mut(*offset..).unwrap_or_default();
        place.iter_mut().zip(*field).for_each(|(to, from)| *to = *from);
    }
    config
}
