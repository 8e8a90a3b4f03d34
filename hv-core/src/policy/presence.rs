//! Where a vCPU is: in its life, and with which processor. What decides whether somebody who left it a message must tell
//! its processor, so that no wake is lost.
//!
//! ```text
//! sender: LOCK OR attention; load life, dispatch_seq; asleep or on CPU: load holder; post there
//! sleeper: life = blocked; dispatch_seq = off (XCHG); anything in attention: life = runnable, and go on
//! entry: attention has STOP: park; take work by LOCK AND, do it; take FLUSH, flush; work again: begin anew; take the rest, but STOP
//! mover: leave it in its parking space; holder = new; post to the new one
//! receiver of a notification for what it is to hold: take it out of its parking space; look at attention
//! stopper, in the parking space's lock: start_up = none; lives: attention = STOP; outside of it: post to the holder
//! starter, in the parking space's lock: stopped: attention without STOP, life = runnable, take it; STOP: start_up = page, if none
//! holder that obeys STOP, in the parking space's lock: start_up: attention without STOP, life = runnable, begin there; else life = stopped
//! ```
//!
//! Models: `hv-core/tests/loom_presence.rs`.

use crate::base::id::CpuId;
use bitflags::bitflags;
use core::sync::atomic::AtomicU64;
use pv_abi::protocol::dispatch::is_on_cpu;
use pv_abi::protocol::word::Word;

/// Where a vCPU is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Life {
    /// Not started, or stopped: it lies in its parking space, and no processor holds it.
    Stopped = 0,
    /// Running, or waiting for a CPU.
    Runnable = 1,
    /// Sleeping.
    Blocked = 2,
}

bitflags! {
    /// Why a vCPU must be looked at before it enters guest mode: bits of [`Presence::attention`].
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Attention: u64 {
        /// An event was set in its event line.
        const EVENT = 1 << 0;
        /// An interrupt was posted.
        const INTERRUPT = 1 << 1;
        /// An NMI was posted.
        const NMI = 1 << 2;
        /// Its own timer is due.
        const TIMER = 1 << 3;
        /// Its devices' lines changed.
        const DEVICE = 1 << 4;
        /// It is to stop.
        const STOP = 1 << 5;
        /// Memory was taken away that it may have translations of.
        const FLUSH = 1 << 6;
        /// Its guest's memory is still being made; or its guest has ended, and what it shared is being cleared.
        const POPULATE = 1 << 7;
        /// A call of another vCPU ends its HLT, this one or the next.
        const KICK = 1 << 8;
        /// Its guest's virtio devices have something to do.
        const VIRTIO = 1 << 9;
        /// Its PAUSE is to exit again.
        const WAITERS = 1 << 10;
        /// What others wait for: nothing that the vCPU does by itself drops it.
        const LASTING = Self::STOP.bits() | Self::FLUSH.bits();
        /// What takes time, and may raise other bits on the vCPU that does it.
        const WORK = Self::TIMER.bits() | Self::POPULATE.bits() | Self::VIRTIO.bits();
        /// What is acted upon at once, when no work is left. An order to stop is never taken by the vCPU: one that came after the look
        /// at it would be lost.
        const NEWS = !(Self::WORK.bits() | Self::LASTING.bits());
    }
}

/// What a processor does with a notification that names a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Notification {
    /// It holds the vCPU: it looks at it.
    Mine,
    /// The vCPU is to be here: it takes it out of its parking space, if it is there yet.
    PickUp,
    /// The vCPU has moved on. What the notification was about lay in `attention` before the sender looked up the holder, so whoever
    /// took the vCPU in has seen it.
    Gone,
}

/// Words that every processor may look at.
#[derive(Debug)]
pub struct Presence<W = AtomicU64> {
    /// Bits of [`Attention`].
    pub attention: W,
    life: W,
    holder: W,
}

impl<W: Word> Presence<W> {
    /// A vCPU that is not started; `zero` makes a word that is zero.
    pub fn new(zero: impl Fn() -> W) -> Self {
        Self { attention: zero(), life: zero(), holder: zero() }
    }

    /// Where it is in its life.
    #[inline]
    pub fn life(&self) -> Life {
        match self.life.load() {
            1 => Life::Runnable,
            2 => Life::Blocked,
            _ => Life::Stopped,
        }
    }

    /// Only whoever holds the vCPU calls this.
    #[inline]
    pub fn set_life(&self, life: Life) {
        self.life.store(life as u64);
    }

    /// The processor that holds it, or will find it in its parking space.
    #[inline]
    pub fn holder(&self) -> CpuId {
        CpuId((self.holder.load() & 63) as u16)
    }

    /// Only whoever holds the vCPU calls this, after it left it in its parking space.
    pub fn set_holder(&self, cpu: CpuId) {
        self.holder.store(u64::from(cpu.0));
    }

    /// Receiver: what to do with a notification for this vCPU. `is_here`: this processor has it in its table.
    pub fn on_notification(&self, me: CpuId, is_here: bool) -> Notification {
        match self.holder() {
            _ if is_here => Notification::Mine,
            holder if holder == me => Notification::PickUp,
            _ => Notification::Gone,
        }
    }

    /// Holder, before an entry: takes those of `bits` that wait for a look.
    pub fn take_attention(&self, bits: Attention) -> Attention {
        Attention::from_bits_retain(self.attention.fetch_and(!bits.bits())) & bits
    }

    /// Holder: the vCPU is about to sleep. What is in `attention` after the caller has published it as off CPU (an XCHG)
    /// forbids that: then [`Self::set_life`] takes it back.
    #[inline]
    pub fn fall_asleep(&self) {
        self.set_life(Life::Blocked);
    }

    /// Sender, after it left something behind a full barrier: whether the vCPU's processor must be told. One that waits for a
    /// CPU finds it when it gets one.
    #[inline]
    pub fn must_be_told(&self, dispatch_seq: &W) -> bool {
        match self.life() {
            Life::Stopped => false,
            Life::Blocked => true,
            Life::Runnable => is_on_cpu(dispatch_seq.load()),
        }
    }
}
