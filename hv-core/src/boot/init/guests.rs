//! Makes the guests of a manifest: memory, tables, channels, vCPUs. All allocations for them happen here.

use super::*;
use hv_core::base::addr::{GuestPhys, HostPhys};
use hv_core::base::id::VcpuIndex;
use hv_core::exit::mmio;
use hv_core::guest::build::{self, Parts};
use hv_core::guest::guest::WINDOW_BASE;
use hv_core::guest::make_error::MakeError;
use hv_core::guest::registers;
use hv_core::guest::virtio_bus;
use hv_core::machine::arch::cpuid::leaf;
use hv_core::machine::pc::PcOf;
use hv_core::policy::mm::nested::EntryFormat;
use hv_core::policy::vcpu_shared::{SharedFrames, Tables};
use pv_abi::table::{CONSOLE_PAGES, DEMAND_PAGES, EVENT_PAGES, STATUS_PAGES};

/// The emulated APIC timer runs at 1 GHz, as QEMU's does.
const APIC_BUS: Frequency = Frequency::from_khz(1_000_000).unwrap();

type Vcpus<V> = Vec<Box<Vcpu<PcOf<V>>>>;

/// Properties of the processors' clock.
#[derive(Clone, Copy)]
pub struct Clock {
    /// All processors' time-stamp counters are one clock.
    pub is_one: bool,
    /// The references by which its rate was measured agree.
    pub is_sure: bool,
}

/// Makes all guests; none of them runs yet. Returns their vCPUs by slot.
pub fn make<'a, V: Vendor>(
    memory: &mut Memory,
    system: &mut System<Ram>,
    bundle: &'a Bundle<'static>,
    capabilities: V::Capabilities,
    clock: Clock,
) -> Result<Vcpus<V>, MakeError<'a>> {
    let manifest = bundle.manifest();
    let facts = cpuid::Facts { machine: leaf, tsc: system.tsc, apic_bus: APIC_BUS, call: V::CALL };
    let usable_tsc =
        clock.is_one && clock.is_sure && (manifest.tsc == TscTrust::Trusted || has_invariant_tsc());
    let mut vcpus = Vec::new();
    system.networks = virtio_bus::networks(&manifest.guests);
    let channels = channel_pages(memory, manifest)?;
    let untouched: Vec<_> = registers::untouched().collect();
    let maps = V::maps(memory, capabilities, &untouched);
    let maps = maps.ok_or_else(|| out_of_memory(memory, &manifest.guests[0]))?;
    for (config, id) in manifest.guests.iter().zip((0_u16..).map(GuestId)) {
        let made =
            make_ram::<V::Format>(memory, config.memory_mib, config.memory_max_mib).zip(make_tables(memory));
        let ((root, ram), tables) = made.ok_or_else(|| out_of_memory(memory, config))?;
        let mut own = config.clone();
        if !clock.is_one {
            own.stay_put(id, u8::try_from(system.cpu_table.cpus().0.count_ones()).unwrap_or(u8::MAX));
        }
        for index in (0..config.vcpus).map(VcpuIndex) {
            if !system.can_run(own.allowed(index)) {
                return Err(MakeError::NoSuchCpu { guest: &config.name, vcpu: index });
            }
        }
        let channels = build::channel_ends(&manifest.channels, &channels, id);
        let disk = config.devices.disk.map_or(&[][..], |disk| bundle.payload(disk.image));
        let virtio = virtio_bus::Bus::new(id, &config.devices, disk, &system.networks)
            .map_err(|error| MakeError::Disk(&config.name, error))?;
        let parts = Parts { config: own, ram, tables, virtio, channels, usable_tsc };
        let guest = build::guest(system, parts).map_err(|_| MakeError::TooManyVcpus(&config.name))?;
        if !guest.is_cooperative() {
            mmio::prepare();
        }
        for shared in &guest.vcpus {
            let setup = Setup { number: u32::from(shared.slot.0) + 1, tsc: system.tsc };
            let state = V::vcpu(memory, maps, root, setup).ok_or_else(|| out_of_memory(memory, config))?;
            vcpus.push(build::vcpu(state, shared, guest, &facts));
        }
    }
    system.fill_pool(memory.blocks());
    Ok(vcpus)
}

fn out_of_memory<'a>(memory: &Memory, config: &'a GuestConfig) -> MakeError<'a> {
    MakeError::Memory {
        guest: &config.name,
        wanted_mib: config.memory_mib,
        free_mib: memory.free_bytes() >> 20,
    }
}

fn make_ram<F: EntryFormat>(memory: &mut Memory, mib: u32, most_mib: u32) -> Option<(HostPhys, Ram)> {
    let bytes = |mib| u64::from(mib) << 20;
    memory.guest_ram::<F>(bytes(mib), bytes(most_mib), GuestPhys::new_truncate(WINDOW_BASE))
}

fn make_tables(memory: &mut Memory) -> Option<Tables> {
    Some(Tables {
        demand: memory.shared_frames(DEMAND_PAGES)?,
        status: memory.shared_frames(STATUS_PAGES)?,
        event: memory.shared_frames(EVENT_PAGES)?,
        console: memory.shared_frames(CONSOLE_PAGES)?,
    })
}

/// Allocates each channel's pages.
fn channel_pages<'a>(
    memory: &mut Memory,
    manifest: &'a Manifest,
) -> Result<Vec<SharedFrames>, MakeError<'a>> {
    let frames = manifest.channels.iter().map(|channel| memory.shared_frames(usize::from(channel.pages)));
    frames.collect::<Option<_>>().ok_or_else(|| out_of_memory(memory, &manifest.guests[0]))
}

fn has_invariant_tsc() -> bool {
    leaf(0x8000_0007, 0)[3] & 1 << 8 != 0
}
