//! A guest ends: by itself, or because it cannot go on.

use super::Cpu;
use crate::base::error::KillReason;
use crate::base::hardware::{GuestRam, Hardware};
use crate::base::id::GuestId;
use crate::dispatch::core::Core;
use crate::dispatch::device::bus::PortBus;
use crate::dispatch::device::channel::{ChannelIndex, Peer};
use crate::dispatch::guest::Guest;
use crate::dispatch::hypercall::console;
use crate::dispatch::vt::{Processor, Reg, Start, VirtualCpu};
use crate::policy::guest::pvh::{self, LoadError};
use crate::policy::publish::Life;
use crate::policy::sched::Slot;
use crate::policy::trace::{Ending, Record};
use alloc::format;
use core::sync::atomic::Ordering::Relaxed;
use pv_abi::header::Header;

impl<P: Processor, H: Hardware, R: GuestRam> Cpu<P, H, R> {
    /// Loads every guest and starts its first vCPU.
    ///
    /// # Errors
    ///
    /// The first guest whose kernel is refused, with the reason.
    pub fn boot_guests(&mut self) -> Result<(), (GuestId, LoadError)> {
        for id in (0_u16..).map(GuestId).take(self.core.guests.len()) {
            self.boot_guest(id).map_err(|error| (id, error))?;
        }
        Ok(())
    }

    /// Makes a guest as it was at the beginning, and starts its first vCPU.
    fn boot_guest(&mut self, id: GuestId) -> Result<(), LoadError> {
        let Some((guest, image)) =
            self.core.guests.get(usize::from(id.0)).copied().zip(self.images.get(usize::from(id.0)))
        else {
            return Ok(());
        };
        guest.ram.clear();
        let loaded = pvh::load(&guest.ram, image.kernel, image.initrd, &guest.config.command_line)?;
        guest.tables.reset(&header(guest.vcpu_count(), guest, &self.core));
        let now = self.core.hardware.now();
        let unix_s = (self.core.wall_ns + self.core.ns(now.0)) / 1_000_000_000;
        *guest.devices.lock() = PortBus::new(&guest.bus_setup(self.core.tsc, now, unix_s));
        guest.place_channels();
        *guest.console.lock() = None;
        guest.line.lock().clear();
        guest.input.lock().clear();
        self.connect(guest, Peer::Present);
        for shared in &guest.vcpus {
            shared.forget();
            shared.set_life(Life::Stopped);
            self.reload(shared.slot);
            if let Some(vcpu) = self.vcpus.get_mut(usize::from(shared.slot.0)) {
                vcpu.lapic.power_on();
            }
        }
        let Some(first) = guest.vcpu(0) else { return Ok(()) };
        if let Some(vcpu) = self.vcpus.get_mut(usize::from(first.slot.0)) {
            vcpu.begin(Start::Protected { entry: loaded.entry, ebx: loaded.start_info });
        }
        first.set_life(Life::Runnable);
        self.core.enqueue(first, now);
        Ok(())
    }

    /// Ends a guest: stops its vCPUs, says so, and starts it again when it asked for that.
    pub(super) fn end(&mut self, id: GuestId, ending: Ending) {
        let Some(guest) = self.core.guests.get(usize::from(id.0)).copied() else { return };
        for vcpu in &guest.vcpus {
            self.stop(vcpu);
        }
        console::drain(guest, &mut self.core);
        self.core.end_line(guest);
        self.connect(guest, Peer::Absent);
        let restart = match &ending {
            Ending::Off => false,
            Ending::Reboot => true,
            Ending::Crash | Ending::Killed(_) => match self.restarts.get_mut(usize::from(id.0)) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    true
                }
                _ => {
                    self.well = false;
                    false
                }
            },
        };
        self.core
            .say(format_args!("guest: ended name={} ending={ending:?} restart={restart}", guest.config.name));
        let tsc = self.core.hardware.now().0;
        let counters = self.counters(id);
        if self.core.has_room_for_ending(id) {
            self.core.record(Record::Ended { guest: id, ending, tsc, counters });
        }
        if restart {
            guest.generation.fetch_add(1, Relaxed);
            let begun = self.core.hardware.now();
            if let Err(error) = self.boot_guest(id) {
                self.core
                    .say(format_args!("guest: not restarted name={} error={error:?}", guest.config.name));
                self.well = false;
                self.alive -= 1;
            }
            // Whoever reboots in a loop pays for it.
            let cost = self.core.hardware.now().since(begun);
            if let Some(first) = guest.vcpu(0) {
                self.core.queue.debit(first.slot, cost);
            }
        } else {
            self.alive -= 1;
        }
    }

    /// Begins or ends a guest's part in its channels. What an earlier life left in the shared pages is gone either way: the
    /// peer sees zeroes, never a hole and never old words.
    fn connect(&mut self, guest: &'static Guest<R>, presence: Peer) {
        guest.devices.lock().hang_up();
        for (end, mine) in guest.channels.iter().zip(0_u16..) {
            end.bound.store(0, Relaxed);
            for word in end.frames.words {
                word.store(0, Relaxed);
            }
            let (id, index) = end.peer;
            if let Some(other) = self.core.guests.get(usize::from(id.0)) {
                other.devices.lock().set_peer(ChannelIndex(u16::from(index)), presence);
                // This guest's devices are new: they know nothing of a peer that was there before.
                let runs = other.vcpus.iter().any(|vcpu| vcpu.life() != Life::Stopped);
                let peer = if runs { Peer::Present } else { Peer::Absent };
                guest.devices.lock().set_peer(ChannelIndex(mine), peer);
            }
        }
    }

    /// Kills a guest that cannot go on, and says where it stood.
    pub(super) fn kill(&mut self, slot: Slot, reason: KillReason) {
        let Some(vcpu) = self.vcpus.get(usize::from(slot.0)) else { return };
        let guest = vcpu.guest;
        self.core.end_line(guest);
        let name = &guest.config.name;
        self.core
            .say(format_args!("guest: killed name={name} vcpu={} reason={reason:?}", vcpu.shared.index().0));
        let reg = |reg| vcpu.state.reg(reg);
        self.core.say(format_args!(
            "guest: registers name={name} rip={:#x} rsp={:#x} cr3={:#x} rax={:#x} rbx={:#x} rcx={:#x} rdx={:#x} rsi={:#x} rdi={:#x}",
            vcpu.state.rip(), vcpu.state.rsp(), vcpu.state.cr3(), reg(Reg::Rax), reg(Reg::Rbx), reg(Reg::Rcx),
            reg(Reg::Rdx), reg(Reg::Rsi), reg(Reg::Rdi),
        ));
        let mut exits = heapless::Vec::<_, 8>::new();
        exits.extend(vcpu.recent_exits());
        self.core.say(format_args!("guest: last exits name={name} latest first {exits:?}"));
        self.end(guest.id, Ending::Killed(format!("{reason:?}")));
    }
}

/// The header of a guest's tables.
fn header<H: Hardware, R: GuestRam>(vcpus: u8, guest: &Guest<R>, core: &Core<H, R>) -> Header {
    Header {
        magic: pv_abi::header::MAGIC,
        major: pv_abi::VERSION.major,
        minor: pv_abi::VERSION.minor,
        size_bytes: 0,
        row_count: u32::from(vcpus),
        row_bytes: 64,
        reserved: 0,
        features: u64::from(guest.features().bits()),
        generation: guest.generation.load(Relaxed),
        tsc_khz: core.tsc.khz(),
        wall_ns: core.wall_ns,
        tsc_to_ns_mul: core.ns_per_tick,
    }
}
