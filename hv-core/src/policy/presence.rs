//! A vCPU's life state and holder, and the rule that decides whether a sender must notify the owning processor, so that no wake-up is
//! lost.
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

/// A vCPU's life state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Life {
    /// The vCPU is not started, or is stopped: it lies in its parking space, and no processor holds it.
    Stopped = 0,
    /// The vCPU runs, or waits for a CPU.
    Runnable = 1,
    /// The vCPU sleeps until a sender wakes it.
    Blocked = 2,
}

bitflags! {
    /// The reasons why the holder must look at a vCPU before it enters guest mode: bits of [`Presence::attention`].
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Attention: u64 {
        /// An event was set in its event line.
        const EVENT = 1 << 0;
        /// An interrupt was posted.
        const INTERRUPT = 1 << 1;
        /// An NMI was posted.
        const NMI = 1 << 2;
        /// The vCPU's own timer is due.
        const TIMER = 1 << 3;
        /// The lines of its guest's devices changed.
        const DEVICE = 1 << 4;
        /// The vCPU is ordered to stop.
        const STOP = 1 << 5;
        /// The vCPU must flush: its guest gave back memory for which it may have cached translations.
        const FLUSH = 1 << 6;
        /// The guest's memory is still being populated; or the guest has ended, and the pages that it shared are being cleared.
        const POPULATE = 1 << 7;
        /// Another vCPU's hypercall ends the vCPU's present HLT, or else its next.
        const KICK = 1 << 8;
        /// The guest's virtio devices have pending work.
        const VIRTIO = 1 << 9;
        /// The vCPU's PAUSE must exit again.
        const WAITERS = 1 << 10;
        /// The bits on which other vCPUs wait: no act of the vCPU itself drops them.
        const LASTING = Self::STOP.bits() | Self::FLUSH.bits();
        /// The bits whose handling takes time, and may raise other bits on the vCPU that does the work.
        const WORK = Self::TIMER.bits() | Self::POPULATE.bits() | Self::VIRTIO.bits();
        /// The bits that the holder handles at once, when no work is left. STOP is not among them and is never taken here, because an order
        /// that came after the look at the bit would be lost.
        const NEWS = !(Self::WORK.bits() | Self::LASTING.bits());
    }
}

/// A receiver's action on a notification that names a vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Notification {
    /// The receiver holds the vCPU, and looks at it.
    Mine,
    /// The receiver is to hold the vCPU: it takes the vCPU out of its parking space, if the vCPU is there yet.
    PickUp,
    /// The vCPU has moved on. The sender set `attention` before it looked up the holder, so the processor that took the vCPU in has seen
    /// the bits.
    Gone,
}

/// A vCPU's words that every processor may read.
#[derive(Debug)]
pub struct Presence<W = AtomicU64> {
    /// Bits of [`Attention`].
    pub attention: W,
    life: W,
    holder: W,
}

impl<W: Word> Presence<W> {
    /// The words of a vCPU that is not started; `zero` makes a word that is zero.
    pub fn new(zero: impl Fn() -> W) -> Self {
        Self { attention: zero(), life: zero(), holder: zero() }
    }

    /// The vCPU's life state.
    #[inline]
    pub fn life(&self) -> Life {
        match self.life.load() {
            1 => Life::Runnable,
            2 => Life::Blocked,
            _ => Life::Stopped,
        }
    }

    /// Sets the life state. Only the holder of the vCPU calls this, or a caller that has the lock of its parking space.
    #[inline]
    pub fn set_life(&self, life: Life) {
        self.life.store(life as u64);
    }

    /// The processor that holds the vCPU, or that will take it from its parking space.
    #[inline]
    pub fn holder(&self) -> CpuId {
        CpuId((self.holder.load() & 63) as u16)
    }

    /// Sets the holder. Only the present holder calls this, after it has left the vCPU in its parking space.
    pub fn set_holder(&self, cpu: CpuId) {
        self.holder.store(u64::from(cpu.0));
    }

    /// Receiver: the action on a notification for this vCPU. `is_here`: the receiver has the vCPU in its table.
    pub fn on_notification(&self, me: CpuId, is_here: bool) -> Notification {
        match self.holder() {
            _ if is_here => Notification::Mine,
            holder if holder == me => Notification::PickUp,
            _ => Notification::Gone,
        }
    }

    /// Holder, before an entry: takes the attention bits of `bits` that are pending.
    pub fn take_attention(&self, bits: Attention) -> Attention {
        Attention::from_bits_retain(self.attention.fetch_and(!bits.bits())) & bits
    }

    /// Holder: the vCPU is about to sleep. The caller then publishes it as off CPU (an XCHG) and reads `attention`; if a bit is set, the
    /// vCPU must not sleep, and the caller undoes this by [`Self::set_life`].
    #[inline]
    pub fn fall_asleep(&self) {
        self.set_life(Life::Blocked);
    }

    /// Sender, after it set attention bits with a full barrier: whether it must notify the vCPU's processor. A vCPU that waits for a CPU
    /// finds the bits when it gets one.
    #[inline]
    pub fn must_be_told(&self, dispatch_seq: &W) -> bool {
        match self.life() {
            Life::Stopped => false,
            Life::Blocked => true,
            Life::Runnable => is_on_cpu(dispatch_seq.load()),
        }
    }
}
