//! What lies on the heap fits into the bytes that the machine's configuration is given for it (docs/src/invariants.md, "The heap").
#![expect(unsafe_code, reason = "an allocator that counts")]

use hv_core::base::id::{GuestId, MAX_CPUS, MAX_GUESTS, MAX_VCPUS, VcpuIndex};
use hv_core::image::manifest::{Devices, MAX_NETWORK_CARDS};
use hv_core::policy::trace::Record;
use hv_core::testkit::{Machine, Spec, at};
use hv_format::heap::{LEAST_BYTES, RECORDS_BYTES, Size};
use pv_abi::call::Call;
use pv_abi::table::{CONSOLE_PAGES, DEMAND_PAGES, EVENT_PAGES, STATUS_PAGES};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts the bytes that are taken, but for the pages of the scripted machine's RAM: bytes, 4096 of them, at any address.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// One test counts at a time.
static COUNTS: Mutex<()> = Mutex::new(());

const RAM_PAGE: Layout = Layout::new::<[u8; 4096]>();

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout != RAM_PAGE {
            let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
            PEAK.fetch_max(live, Relaxed);
        }
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout != RAM_PAGE {
            LIVE.fetch_sub(layout.size(), Relaxed);
        }
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that `work` has at most, beyond what is there before.
fn peak<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let value = work();
    ((PEAK.load(Relaxed) - before) as u64, value)
}

/// A machine's heap while it boots, and the size of its configuration.
fn boot(cpus: u8, guests: usize, vcpus: u8, cards: usize) -> (u64, Size, Machine) {
    let devices = |n: usize| Devices {
        console: true,
        entropy: true,
        balloon: true,
        network: (n < cards).then_some(0),
        ..Devices::default()
    };
    let specs = (0..guests).map(|n| {
        let spec = if n == 0 {
            Spec::cooperative("first")
        } else {
            Spec::full(&format!("g{n}")).devices(devices(n))
        };
        spec.vcpus(vcpus).memory_mib(4, 4)
    });
    let (bytes, machine) = peak(|| Machine::boot_on(cpus, specs, &[]));
    // The tables that guests see lie in frames of their own.
    let frames = guests * (DEMAND_PAGES + STATUS_PAGES + EVENT_PAGES + CONSOLE_PAGES) * 4096;
    let count = |n: usize| n as u64;
    let size = Size {
        cpus: cpus.into(),
        guests: count(guests),
        vcpus: count(guests) * u64::from(vcpus),
        cards: count(cards),
        blocks: 2 * count(guests),
        ..Size::default()
    };
    (bytes - count(frames), size, machine)
}

#[test]
fn what_is_made_at_boot_fits_at_the_largest_configuration_and_at_smaller_ones() {
    let _alone = COUNTS.lock();
    let most =
        (u8::try_from(MAX_CPUS).unwrap_or(0), MAX_GUESTS, usize::try_from(MAX_NETWORK_CARDS).unwrap_or(0));
    for (cpus, guests, vcpus, cards) in [
        (most.0, most.1, u8::try_from(MAX_VCPUS / MAX_GUESTS).unwrap_or(0), most.2),
        (most.0, 16, 64, 16),
        (most.0, 1, 1, 0),
        (1, most.1, 4, most.2),
        (1, 16, 64, 0),
        (1, 1, 1, 0),
        (8, 16, 4, 16),
    ] {
        let (bytes, size, _machine) = boot(cpus, guests, vcpus, cards);
        let room = size.bytes() - RECORDS_BYTES as u64;
        println!(
            "{size:?}: {} KiB at boot, {} KiB of room beside {} KiB for records",
            bytes >> 10,
            room >> 10,
            RECORDS_BYTES >> 10
        );
        assert!(bytes <= room, "{size:?}");
    }
}

#[test]
fn a_machine_of_eight_processors_and_sixteen_guests_needs_no_more_than_every_heap_has() {
    let size = Size { cpus: 8, guests: 16, vcpus: 64, cards: 16, blocks: 2048, ..Size::default() };
    assert!(size.bytes() <= LEAST_BYTES, "{}", size.bytes());
}

#[test]
fn marks_and_endings_without_end_take_their_quota_of_the_heap_and_no_more() {
    let _alone = COUNTS.lock();
    for (cpus, guests) in [(1, 1), (4, 1), (64, 1), (64, 2), (64, 4), (64, 64), (1, 256), (64, 256)] {
        let (_, _, mut machine) = boot(cpus, guests, 1, 0);
        let system = machine.cpu.core.system;
        let (bytes, kept) = peak(|| {
            let mut kept = 0_usize;
            for n in (0..guests).filter_map(|n| u16::try_from(n).ok()) {
                while system.telemetry.lock().has_room_for_mark(GuestId(n), guests, usize::from(cpus)) {
                    let counters: Vec<_> = system.guests.iter().map(|guest| system.counters(guest)).collect();
                    let lines: Vec<_> =
                        system.cpu_table.iter().map(|(_, line)| line.tally.counters()).collect();
                    system.telemetry.lock().keep(Record::Mark {
                        guest: GuestId(n),
                        vcpu: VcpuIndex(0),
                        id: 0,
                        value: 0,
                        tsc: 0,
                        cpus: lines,
                        guests: counters,
                    });
                    kept += 1;
                }
                while system.telemetry.lock().has_room_for_ending(GuestId(n), guests) {
                    system.telemetry.lock().keep(Record::Lost { records: 0 });
                    kept += 1;
                }
            }
            kept
        });
        println!("{cpus} processors, {guests} guests: {kept} records in {} KiB", bytes >> 10);
        assert!(bytes <= RECORDS_BYTES as u64, "{cpus} processors, {guests} guests: {bytes} bytes");
        // The call itself stops there, too.
        for n in 0..20 {
            let _ = machine.call(at(0, 0), Call::MARK, &[n, 0]);
        }
        assert_eq!(system.telemetry.lock().take().len(), kept + 1, "and a record of what was lost");
    }
}
