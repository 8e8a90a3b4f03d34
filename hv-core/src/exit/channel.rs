//! Channels: pages that two guests share, and a doorbell each way. A cooperative guest rings by a hypercall and is rung by an
//! event; a full guest rings by a port and is rung by an interrupt.

use crate::base::hardware::{GuestRam, Hardware};
use crate::base::id::VcpuIndex;
use crate::device::channel::{ChannelIndex, Peer};
use crate::exit::cpu::CpuContext;
use crate::guest::channel_end::ChannelEnd;
use crate::guest::guest::Guest;
use crate::guest::platform::Platform;
use crate::guest::system::System;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use pv_abi::call::Code;

/// Encoding of a bound end: bit 16 set, event in bits 15:8, vCPU in bits 7:0.
const fn binding(vcpu: u8, event: u8) -> u32 {
    1 << 16 | (event as u32) << 8 | vcpu as u32
}

/// Binds this end of a channel: the other end's RING then posts `event` to `vcpu`.
pub fn bind<R: GuestRam>(guest: &Guest<R>, channel: u8, vcpu: VcpuIndex, event: u8) {
    if let Some(end) = guest.channels.get(usize::from(channel)) {
        end.bound.store(binding(vcpu.0, event), SeqCst);
    }
}

/// The guest at the other end of a channel, with the number and the state of that end.
fn peer<P: Platform>(
    guest: &'static Guest<P::Ram>,
    core: &CpuContext<P>,
    channel: u8,
) -> Option<(&'static Guest<P::Ram>, u8, &'static ChannelEnd)> {
    let (id, theirs) = guest.channels.get(usize::from(channel))?.peer;
    let other: &'static Guest<P::Ram> = core.system.guest(id)?;
    Some((other, theirs, other.channels.get(usize::from(theirs))?))
}

/// Rings the peer's doorbell: BAD_STATE if the peer has not bound its end.
pub fn ring<P: Platform>(guest: &'static Guest<P::Ram>, core: &mut CpuContext<P>, channel: u8) -> Code {
    let Some((other, theirs, end)) = peer(guest, core, channel) else { return Code::NOT_THERE };
    // The event or interrupt is posted while the devices are locked: after the peer's end has hung up, no ring can reach the
    // guest's next life.
    let devices = other.pc.ports.lock();
    let target = if other.is_cooperative() {
        let [index, event, valid, _] = end.bound.load(SeqCst).to_le_bytes();
        let target = other.vcpu(u64::from(index)).filter(|_| valid != 0);
        target.inspect(|target| target.post_event(event))
    } else {
        let vector = devices.doorbell_vector(ChannelIndex(u16::from(theirs)));
        let target = other.vcpu(0).zip(vector);
        target.map(|(target, vector)| {
            target.post_interrupt(vector);
            target
        })
    };
    drop(devices);
    let Some(target) = target else { return Code::BAD_STATE };
    let now = core.hardware.now();
    core.wake(target, guest.id, now);
    Code::OK
}

/// Connects or disconnects a guest's channels, and tells its peers' devices and its own. Its shared pages are cleared
/// elsewhere ([`Populating`](crate::guest::populate::Populating)): before this call where the guest begins, and after it
/// where the guest ends.
pub fn connect<R: GuestRam>(guest: &Guest<R>, system: &System<R>, presence: Peer) {
    let _alone = system.channel_links.lock();
    guest.life.connected.store(presence == Peer::Present, Relaxed);
    guest.pc.ports.lock().hang_up();
    for (end, mine) in guest.channels.iter().zip(0_u16..) {
        end.bound.store(0, SeqCst);
        let (id, index) = end.peer;
        if let Some(other) = system.guest(id) {
            other.pc.ports.lock().set_peer(ChannelIndex(u16::from(index)), presence);
            // This guest's devices are new: they do not know yet whether the peer is present.
            let peer = if other.life.connected.load(Relaxed) { Peer::Present } else { Peer::Absent };
            guest.pc.ports.lock().set_peer(ChannelIndex(mine), peer);
        }
    }
}

/// QUERY's answer: number of the channel's pages in bits 15:0; bit 16 is set if the peer has bound its end.
pub fn query<P: Platform>(guest: &'static Guest<P::Ram>, core: &CpuContext<P>, channel: u8) -> u64 {
    let pages = guest.channels.get(usize::from(channel)).map_or(0, |end| end.frames.words.len() / 512);
    let bound = peer(guest, core, channel).is_some_and(|(other, theirs, end)| {
        if other.is_cooperative() {
            end.bound.load(SeqCst) != 0
        } else {
            other.pc.ports.lock().doorbell_vector(ChannelIndex(u16::from(theirs))).is_some()
        }
    });
    pages as u64 | u64::from(bound) << 16
}
