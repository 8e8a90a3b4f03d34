//! How guests begin, restart and end: on their own, or because they cannot go on.

use super::Cpu;
use crate::base::addr::LARGE_PAGE_BYTES;
use crate::base::control::Start;
use crate::base::error::KillReason;
use crate::base::hardware::{GuestBytes, Hardware, SharedWindow};
use crate::base::id::GuestId;
use crate::base::time::{Ticks, Tsc};
use crate::device::bus::PortBus;
use crate::device::channel::Peer;
use crate::exit::ballooning;
use crate::exit::channel;
use crate::exit::cpu::CpuContext;
use crate::exit::hypercall::console;
use crate::guest::guest::{Guest, NOT_BEGUN};
use crate::guest::lifecycle::Stopped;
use crate::guest::platform::Platform;
use crate::guest::populate::{PopulateProgress, Populating};
use crate::guest::seam::{CpuRegisters, Reg};
use crate::guest::vcpu::Vcpu;
use crate::image::load::{self, LoadError, acpi};
use crate::policy::presence::Attention;
use crate::policy::sched::Slot;
use crate::policy::trace::{Ending, Record};
use crate::policy::vcpu_shared::VcpuShared;
use core::sync::atomic::Ordering::Relaxed;
use pv_abi::header::Header;

impl<P: Platform> Cpu<P> {
    /// Loads every guest and starts its first vCPU.
    ///
    /// # Errors
    ///
    /// The first guest whose kernel is refused, with the reason.
    pub fn boot_guests(&mut self) -> Result<(), (GuestId, LoadError)> {
        for guest in &self.core.system.guests {
            let begun = self.core.hardware.now();
            let start = self.reset(guest).map_err(|error| (guest.id, error))?;
            // The work that follows the last part is left to the guest's first vCPU.
            if let Some(populating) = guest.memory.populating.lock().as_mut() {
                while populating.step(&guest.ram) == PopulateProgress::More {}
            }
            // No guest is charged for populating memory at boot.
            let now = self.core.hardware.now();
            self.core.queue.lose(now.since(begun));
            self.start_first(guest, start, apart(guest.id, self.core.params.default_request), now);
        }
        Ok(())
    }

    /// Resets a guest, all of whose vCPUs are stopped, except for RAM; its first vCPU populates that on its own time.
    fn reset(&mut self, guest: &'static Guest<P::Ram>) -> Result<Start, LoadError> {
        let system = self.core.system;
        let image = system.image(guest.id).ok_or(LoadError::NotKernel)?;
        let devices = guest.pc.virtio.lock().described();
        let plan = load::plan(&load::LoadRequest {
            ram_bytes: guest.ram.len_bytes(),
            kernel: image.kernel,
            initrd: image.initrd,
            command_line: &guest.config.command_line,
            acpi: (!guest.is_cooperative())
                .then(|| acpi::tables(&acpi::Machine { vcpus: guest.vcpu_count(), devices: &devices })),
        })?;
        if !ballooning::restore_blocks(guest, system, guest.ram.len_bytes() / LARGE_PAGE_BYTES) {
            return Err(LoadError::NoMemory);
        }
        let start = plan.start;
        guest.life.began.store(NOT_BEGUN, Relaxed);
        *guest.memory.populating.lock() = Some(Populating::new(plan, &guest.ram, &guest.channels));
        guest.ram.clear_window();
        guest.tables.reset(&header(guest, &self.core));
        let now = self.core.hardware.now();
        let unix_s = (system.wall_ns + self.core.ns(now.0)) / 1_000_000_000;
        *guest.pc.ports.lock() = PortBus::new(&guest.bus_setup(self.core.tsc, now, unix_s));
        guest.set_level_vectors(&[0; 4]);
        guest.pc.virtio.lock().power_on();
        guest.place_channels();
        *guest.console.ring.lock() = None;
        guest.console.line.lock().clear();
        guest.console.input.lock().clear();
        for shared in &guest.vcpus {
            shared.forget();
            shared.let_pauses_run(false);
            if let Some(mut vcpu) = self.parking.take_stopped(shared) {
                vcpu.lapic.power_on();
                self.parking.retire(vcpu);
            }
        }
        guest.life.lifecycle.lock().begin();
        Ok(start)
    }

    fn start_first(&mut self, guest: &'static Guest<P::Ram>, start: Start, cost: Ticks, now: Tsc) {
        if let Some(first) = guest.vcpu(0) {
            first.request_attention(Attention::POPULATE);
            self.start_stopped(first, start, cost, now);
        }
    }

    /// Ends a guest, unless it is ending already.
    pub(super) fn end(&mut self, guest: &'static Guest<P::Ram>, ending: Ending, now: Tsc) {
        let ends = guest.life.lifecycle.lock().end(ending);
        if ends {
            self.stop_all(guest, now);
        }
    }

    /// Tells all vCPUs of an ending guest to stop; the last one to stop concludes the guest.
    fn stop_all(&mut self, guest: &'static Guest<P::Ram>, now: Tsc) {
        for vcpu in &guest.vcpus {
            self.stop(vcpu, now);
        }
        let stopped = guest.life.lifecycle.lock().stop();
        if let Stopped::Ended(ending) = stopped {
            self.conclude(guest, ending, now);
        }
    }

    /// All vCPUs of a guest have stopped: reports how the guest ended, and restarts it if its ending calls for that.
    /// Otherwise its first vCPU starts once more, to clear the pages that the guest shared: in parts and on the guest's own
    /// time, as at a new beginning.
    pub(super) fn conclude(&mut self, guest: &'static Guest<P::Ram>, ending: Ending, now: Tsc) {
        let system = self.core.system;
        let said_all = console::drain(guest, &mut self.core, CpuContext::last_words_room);
        self.core.end_line(guest);
        if !said_all {
            self.core.say(format_args!("guest: last words lost name={}", guest.config.name));
        }
        system.turns.lock().forget(guest.id);
        channel::connect(guest, system, Peer::Absent);
        let restart = match &ending {
            Ending::Off => false,
            Ending::Reboot => true,
            Ending::Crash | Ending::Killed(_) => {
                let again = guest.life.lifecycle.lock().take_restart();
                if !again {
                    system.note_bad_end();
                }
                again
            }
        };
        self.core
            .say(format_args!("guest: ended name={} ending={ending:?} restart={restart}", guest.config.name));
        let tsc = self.core.hardware.now().0;
        let counters = system.counters(guest);
        {
            let mut telemetry = system.telemetry.lock();
            if telemetry.has_room_for_ending(guest.id, system.guests.len()) {
                telemetry.keep(Record::Ended {
                    guest: guest.id,
                    ending,
                    began: guest.life.began.load(Relaxed),
                    tsc,
                    counters,
                });
            }
        }
        if restart && self.begin_again(guest, now) {
            return;
        }
        if guest.channels.is_empty() {
            return self.depart(guest);
        }
        guest.pc.virtio.lock().power_on();
        guest.life.lifecycle.lock().leave();
        *guest.memory.populating.lock() = Some(Populating::of_channels(&guest.channels));
        self.start_first(guest, Start::Protected { entry: 0, ebx: 0 }, Ticks(0), now);
    }

    /// Gives the memory of a guest that has ended for good to the pool; the guest shares no pages any more.
    pub(super) fn depart(&mut self, guest: &'static Guest<P::Ram>) {
        let system = self.core.system;
        let _ = ballooning::restore_blocks(guest, system, 0);
        if system.guest_is_over() {
            for (cpu, _) in system.cpu_table.iter() {
                self.core.ask(cpu);
            }
        }
    }

    /// Restarts a guest at its own cost: a guest that reboots in a loop waits longer and longer for each restart. Returns
    /// false if the reset fails.
    fn begin_again(&mut self, guest: &'static Guest<P::Ram>, now: Tsc) -> bool {
        guest.life.generation.fetch_add(1, Relaxed);
        match self.reset(guest) {
            Ok(start) => {
                self.start_first(guest, start, Ticks(0), now);
                true
            }
            Err(error) => {
                self.core
                    .say(format_args!("guest: not restarted name={} error=\"{error}\"", guest.config.name));
                self.core.system.note_bad_end();
                false
            }
        }
    }

    /// Kills a guest that cannot go on, and reports the vCPU's registers; of several vCPUs that fail at once only the first
    /// one's are reported.
    pub(super) fn kill(&mut self, slot: Slot, reason: KillReason, now: Tsc) {
        let Some(vcpu) = self.vcpus.get(usize::from(slot.0)).and_then(Option::as_deref) else { return };
        let guest = vcpu.guest;
        let ends = guest.life.lifecycle.lock().end(Ending::Killed(reason));
        if ends {
            obituary(&mut self.core, vcpu, reason);
            self.stop_all(guest, now);
        }
    }

    /// Ends a guest that has itself stopped its last vCPU, which is in its parking space by now.
    pub(super) fn bury(&mut self, shared: &'static VcpuShared, now: Tsc) {
        let Some(guest) = self.core.system.guest(shared.id.guest) else { return };
        let reason = KillReason::AllStopped;
        if let Some(vcpu) = self.parking.take_stopped(shared) {
            obituary(&mut self.core, &vcpu, reason);
            self.parking.retire(vcpu);
        }
        self.conclude(guest, Ending::Killed(reason), now);
    }
}

/// The CPU time that a guest owes at boot: less than one request, and different for any two guests. Otherwise compute-bound
/// guests would run in step forever, and a vCPU that wakes beside them would wait for a turn of each.
fn apart(id: GuestId, request: Ticks) -> Ticks {
    // Multiples of the golden ratio: the fractional parts of any number of them are spread evenly (the three-gap theorem).
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let fraction = u64::from(id.0).wrapping_mul(GOLDEN) >> 32;
    Ticks((request.0.min(u64::from(u32::MAX)) * fraction) >> 32)
}

/// Reports why a guest is killed, with the registers and last exits of the vCPU.
fn obituary<P: Platform>(core: &mut CpuContext<P>, vcpu: &Vcpu<P>, reason: KillReason) {
    core.end_line(vcpu.guest);
    let name = &vcpu.guest.config.name;
    core.say(format_args!("guest: killed name={name} vcpu={} reason={reason:?}", vcpu.shared.index().0));
    let reg = |reg| vcpu.state.reg(reg);
    core.say(format_args!(
        "guest: registers name={name} rip={:#x} rsp={:#x} cr2={:#x} cr3={:#x} rax={:#x} rbx={:#x} rcx={:#x} rdx={:#x} rsi={:#x} rdi={:#x}",
        vcpu.state.rip(), vcpu.state.rsp(), vcpu.state.cr2(), vcpu.state.cr3(), reg(Reg::Rax), reg(Reg::Rbx), reg(Reg::Rcx),
        reg(Reg::Rdx), reg(Reg::Rsi), reg(Reg::Rdi),
    ));
    let mut exits = heapless::Vec::<_, 8>::new();
    exits.extend(vcpu.shared.tally.last_exits());
    core.say(format_args!("guest: last exits name={name} latest first {exits:?}"));
}

/// The header of a guest's tables.
fn header<P: Platform>(guest: &Guest<P::Ram>, core: &CpuContext<P>) -> Header {
    Header {
        magic: pv_abi::header::MAGIC,
        major: pv_abi::VERSION.major,
        minor: pv_abi::VERSION.minor,
        size_bytes: 0,
        row_count: u32::from(guest.vcpu_count()),
        row_bytes: 64,
        reserved: 0,
        features: u64::from(guest.features().bits()),
        generation: guest.life.generation.load(Relaxed),
        tsc_khz: core.tsc.khz(),
        wall_ns: core.system.wall_ns,
        tsc_to_ns_mul: core.ns_per_tick,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn guests_begin_apart_evenly_however_many_there_are() {
        let request = Ticks(2_000_000);
        for count in 2..=256 {
            let mut owed: Vec<u64> = (0..count).map(|id| apart(GuestId(id), request).0).collect();
            owed.sort_unstable();
            let around = owed[0] + request.0 - owed[usize::from(count) - 1];
            let least = owed.windows(2).map(|pair| pair[1] - pair[0]).chain([around]).min().unwrap();
            assert!(owed.iter().all(|owed| *owed < request.0));
            assert!(least * 3 * u64::from(count) > request.0, "{count}: {least}");
        }
    }
}
