//! The vendor-neutral part of building a guest. The caller provides the memory and the vendor's vCPU state.

use crate::base::hardware::GuestRam;
use crate::base::id::{GuestId, MAX_GUESTS, MAX_VCPUS, VcpuId, VcpuIndex};
use crate::base::lock::{Lock, Rank};
use crate::base::time::Tsc;
use crate::device::bus::{self, PortBus};
use crate::device::lapic::{self, Lapic, Role};
use crate::guest::channel_end::ChannelEnd;
use crate::guest::cpuid;
use crate::guest::guest::{Console, Guest, Life, MovingMemory, NOT_BEGUN, Pc};
use crate::guest::lifecycle::Lifecycle;
use crate::guest::platform::{Platform, State};
use crate::guest::system::System;
use crate::guest::transit::Transit;
use crate::guest::vcpu::Vcpu;
use crate::guest::virtio_bus::Bus;
use crate::image::manifest::{ChannelConfig, GuestConfig, Visibility};
use crate::policy::mm::shootdown::Shootdown;
use crate::policy::sched::Slot;
use crate::policy::vcpu_shared::{SharedFrames, Tables, VcpuShared};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// The parts from which [`guest`] makes a guest.
pub struct Parts<R: GuestRam> {
    /// The resources and limits that the owner of the machine grants it.
    pub config: GuestConfig,
    /// The guest's memory.
    pub ram: R,
    /// The tables that the guest shares with the hypervisor.
    pub tables: Tables,
    /// The guest's virtio devices.
    pub virtio: Bus,
    /// The guest's ends of channels, by number.
    pub channels: Vec<ChannelEnd>,
    /// Whether the time-stamp counter may be trusted for deadlines.
    pub usable_tsc: bool,
}

/// The machine has no room for another guest or vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Makes the next guest. The caller makes its vCPUs by [`vcpu`], in the order of [`Guest::vcpus`]; none of them runs yet.
///
/// # Errors
///
/// [`Full`] beyond [`MAX_GUESTS`] guests or [`MAX_VCPUS`] vCPUs.
pub fn guest<R: GuestRam>(system: &mut System<R>, parts: Parts<R>) -> Result<&'static Guest<R>, Full> {
    let Parts { config, ram, tables, virtio, channels, usable_tsc } = parts;
    let id = u16::try_from(system.guests.len()).ok().filter(|_| system.guests.len() < MAX_GUESTS);
    let id = GuestId(id.ok_or(Full)?);
    let shows_waiters = config.visibility != Visibility::None;
    let mut vcpus = Vec::with_capacity(usize::from(config.vcpus));
    for index in (0..config.vcpus).map(VcpuIndex) {
        let slot = system.vcpus.len() + usize::from(index.0);
        let slot = Slot(u16::try_from(slot).ok().filter(|_| slot < MAX_VCPUS).ok_or(Full)?);
        let shared =
            VcpuShared::new(VcpuId { guest: id, index }, slot, &tables, shows_waiters, config.allowed(index))
                .ok_or(Full)?;
        vcpus.push(&*Box::leak(Box::new(shared)));
    }
    // These devices are placeholders: when the guest boots, devices that know the time replace them.
    let setup = bus::Setup { tsc: system.tsc, now: Tsc(0), unix_s: 0, memory_mib: 0, channels: Vec::new() };
    let restarts = config.restarts;
    let guest: &'static Guest<R> = Box::leak(Box::new(Guest {
        id,
        config,
        ram,
        tables,
        vcpus: vcpus.into_boxed_slice(),
        channels,
        pc: Pc {
            ports: Lock::new(Rank::Leaf, PortBus::new(&setup)),
            virtio: Lock::new(Rank::Virtio, virtio),
            level_vectors: [const { AtomicU64::new(0) }; 4],
        },
        console: Console {
            ring: Lock::new(Rank::Console, None),
            line: Lock::new(Rank::Line, heapless::Vec::new()),
            input: Lock::new(Rank::Leaf, heapless::Deque::new()),
        },
        memory: MovingMemory {
            populating: Lock::new(Rank::Leaf, None),
            transit: Lock::new(Rank::Memory, Transit::default()),
            shootdown: Shootdown::new(|| AtomicU64::new(0)),
        },
        life: Life {
            lifecycle: Lock::new(Rank::Leaf, Lifecycle::new(restarts)),
            connected: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            began: AtomicU64::new(NOT_BEGUN),
        },
        usable_tsc,
    }));
    system.add(guest);
    Ok(guest)
}

/// Makes a vCPU of `guest` around the vendor's state.
pub fn vcpu<P: Platform>(
    state: State<P>,
    shared: &'static VcpuShared,
    guest: &'static Guest<P::Ram>,
    facts: &cpuid::Facts,
) -> Box<Vcpu<P>> {
    let index = shared.index().0;
    let lapic = Lapic::new(&lapic::Setup {
        id: u32::from(index),
        role: if index == 0 { Role::Bootstrap } else { Role::Application },
        physical_bits: cpuid::physical_bits(facts),
        tsc: facts.tsc,
        bus: facts.apic_bus,
        flat_id: &shared.flat_id,
    });
    Box::new(Vcpu::new(state, shared, guest, cpuid::table(facts, guest, index), lapic))
}

/// Makes a guest's ends of the machine's channels, in the order of the configuration; `frames` are the channels' pages.
pub fn channel_ends(channels: &[ChannelConfig], frames: &[SharedFrames], guest: GuestId) -> Vec<ChannelEnd> {
    let ends = |before: &[ChannelConfig], of: u16| {
        before.iter().flat_map(|channel| channel.ends).filter(|end| *end == of).count()
    };
    let mut mine = Vec::new();
    for ((n, channel), frames) in channels.iter().enumerate().zip(frames) {
        let [a, b] = channel.ends;
        let before = channels.get(..n).unwrap_or_default();
        let index = |of, more| u8::try_from(ends(before, of) + more).unwrap_or(u8::MAX);
        // A channel from a guest to itself has both ends in that guest, with consecutive numbers.
        let numbers = [index(a, 0), index(b, usize::from(a == b))];
        for (own, peer, number) in [(a, b, numbers[1]), (b, a, numbers[0])] {
            if own == guest.0 {
                mine.push(ChannelEnd {
                    frames: *frames,
                    peer: (GuestId(peer), number),
                    bound: AtomicU32::new(0),
                });
            }
        }
    }
    mine
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::HostPhys;

    #[test]
    fn both_ends_of_a_channel_name_each_other() {
        let channel = |a, b| ChannelConfig { ends: [a, b], pages: 1 };
        let channels = [channel(0, 1), channel(2, 2), channel(1, 0), channel(1, 2)];
        let frames: Vec<_> =
            (0..4).map(|n| SharedFrames { start: HostPhys::new_truncate(n << 12), words: &[] }).collect();
        let all: Vec<_> = (0..3).map(|guest| channel_ends(&channels, &frames, GuestId(guest))).collect();
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [2, 3, 3]);
        for (guest, ends) in (0_u16..).zip(&all) {
            for (number, end) in (0_u8..).zip(ends) {
                let (peer, theirs) = end.peer;
                let other = &all[usize::from(peer.0)][usize::from(theirs)];
                assert_eq!(other.peer, (GuestId(guest), number));
                assert_eq!(other.frames.start, end.frames.start);
            }
        }
    }
}
