//! Initializes the machine, makes its guests, and runs them.
#![expect(unsafe_code, reason = "takes the machine's parts into service, each once")]

use super::handover::Handover;
use super::selftest::Selftest;
use super::shared::{Common, Shared};
use super::{layout, processors};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use core::fmt::{Display, Write};
use hv_core::base::addr::PAGE_BYTES;
use hv_core::base::id::{CpuId, GuestId};
use hv_core::base::time::Frequency;
use hv_core::boot::firmware::{self, Controllers, LeftOut};
use hv_core::guest::cpuid;
use hv_core::guest::parking::Parking;
use hv_core::guest::system::System;
use hv_core::guest::vcpu::Vcpu;
use hv_core::image::bundle::Bundle;
use hv_core::image::load::Image;
use hv_core::image::manifest::{GuestConfig, Manifest, TscTrust};
use hv_core::machine::arch::apic::LocalApic;
use hv_core::machine::arch::calibrate::References;
use hv_core::machine::arch::console::{self, Console};
use hv_core::machine::arch::exit::{self, Verdict, power_off};
use hv_core::machine::arch::ioapic;
use hv_core::machine::arch::serial::Serial;
use hv_core::machine::arch::{clean, descriptors, interrupts, paging, percpu, time};
use hv_core::machine::memory::{HypervisorHeap, Memory, Ram};
use hv_core::machine::serial_log::SerialLog;
use hv_core::machine::vt::{Amd, Intel, Kind, Setup, Vendor};
use hv_core::policy::calibrate::{Found, NoClock, Trust};
use hv_core::policy::trace::Record;
use hv_format::heap;

mod guests;

#[global_allocator]
static HEAP: HypervisorHeap = HypervisorHeap::empty();

const TOO_LITTLE_MEMORY: &str = "the machine has too little memory";
/// Seconds for which the last lines stay on the screen, if the machine has no serial console.
const READING_S: u64 = 10;

/// Logs the reason why no guest is started, and powers off.
fn refuse(log: &SerialLog, why: impl Display) -> ! {
    say(log, format_args!("refused: {why}"));
    end(log, Verdict::Refused)
}

fn say(log: &SerialLog, text: impl Display) {
    log.write(format!("comity: {text}\n").as_bytes());
}

fn end(log: &SerialLog, verdict: Verdict) -> ! {
    if let Some((count, vector)) = interrupts::strays() {
        say(log, format_args!("interrupts: nobody's count={count} last_vector={vector:#x}"));
    }
    say(log, format_args!("end: verdict={verdict:?}"));
    log.flush();
    if log.go_dark() {
        time::wait_seconds(READING_S);
    }
    power_off(verdict)
}

/// Runs from the handover to the last guest's end.
pub fn main(mut handover: Handover) -> ! {
    if let Some(frame) = handover.screen {
        console::learn(frame);
    }
    // SAFETY: this is the first and only code that drives the two UARTs and the screen, which is not RAM in the loader's map
    // and which the entry code mapped.
    let (mut console, com2) = unsafe { (Console::new(), Serial::new(Serial::COM2)) };
    // SAFETY: the frames that the entry code took from the loader's map are RAM without the image, the bundle and the firmware's
    // data, all below the 4 GiB that are mapped.
    let mut memory = unsafe { Memory::new(core::mem::take(&mut handover.frames)) };
    if !HEAP.init(&mut memory, heap::LEAST_BYTES) {
        let free_kib = memory.free_bytes() / 1024;
        let _ = writeln!(console, "comity: refused: {TOO_LITTLE_MEMORY}: {free_kib} KiB free");
        let _ = writeln!(console, "comity: end: verdict={:?}", Verdict::Refused);
        console.finish();
        power_off(Verdict::Refused)
    }
    let log: &'static SerialLog = Box::leak(Box::new(SerialLog::new(console, com2)));
    percpu::install(CpuId(0));
    descriptors::install();
    interrupts::install();
    clean::registers();
    // SAFETY: this is the only processor that runs, and nothing lies below its stack.
    if !unsafe { paging::unmap(&mut memory, layout::stack_guard(), layout::GUARD_BYTES) } {
        refuse(log, TOO_LITTLE_MEMORY);
    }
    // SAFETY: CPL 0, the APIC's page is below 4 GiB and mapped, and this is the only code that drives it.
    let mut apic = unsafe { LocalApic::enable() };
    // Broken tables are logged below, at the look-up of the way to power off.
    let pm = firmware::pm_timer(|at, into| memory.read_firmware(at, into), handover.rsdp).unwrap_or(None);
    let measured = References::measure(&mut apic, pm);
    let (references, clocks) = measured.unwrap_or_else(|missing| match missing {
        NoClock::NoReference => refuse(log, "neither the 8254 nor an ACPI timer counts"),
        NoClock::NoApicTimer => refuse(log, "the APIC timer does not count"),
    });
    if clocks.trust != Trust::Good {
        say(log, format_args!("tsc: not trusted tsc_khz={} reason={:?}", clocks.tsc.khz(), clocks.trust));
    }
    match firmware::soft_off(|at, into| memory.read_firmware(at, into), handover.rsdp) {
        Ok(way) => exit::learn(way),
        Err(error) => say(log, format_args!("no way to power off: {error}")),
    }
    let ground = Ground { memory, apic, clocks, references, log };
    match Kind::find() {
        Some(Kind::Svm) => run::<Amd>(ground, handover),
        Some(Kind::Vmx) => run::<Intel>(ground, handover),
        None => refuse(
            log,
            "this processor has neither AMD-V (CPUID 8000_0001 ECX.SVM) nor VT-x (CPUID 1 ECX.VMX); \
             QEMU: -cpu max or -cpu qemu64,+svm,+npt",
        ),
    }
}

/// The machine's resources before any guest exists.
struct Ground {
    memory: Memory,
    apic: LocalApic,
    clocks: Found,
    references: References,
    log: &'static SerialLog,
}

/// Runs from enabling virtualization to the last guest's end.
fn run<V: Vendor>(ground: Ground, handover: Handover) -> ! {
    let Ground { mut memory, mut apic, clocks, references, log } = ground;
    let processor = enable::<V>(&mut memory, clocks, log);
    let capabilities = V::capabilities(&processor);
    let bundle = Bundle::parse(handover.bundle).unwrap_or_else(|error| refuse(log, error));
    let manifest = bundle.manifest();
    let controllers = controllers(&memory, &handover, &apic, log);
    let start = processors::Start::<V> {
        memory: &mut memory,
        apic: &mut apic,
        others: controllers.others,
        wanted: capabilities,
        tsc: clocks.tsc,
        page: handover.start_page,
    };
    let processors = processors::start(start, |text| say(log, text));
    let cpus = u8::try_from(processors.apic_ids.len()).unwrap_or(u8::MAX);
    describe::<V>(&memory, clocks, capabilities, (cpus, manifest.guests.len()), log);
    grow_heap(&mut memory, heap::Size::of(manifest, cpus).bytes(), log);
    let mut system = System::new(cpus, clocks.tsc, time::wall_ns_at_zero(clocks.tsc));
    attach_people(&mut system, manifest, handover.command_line);
    let clock = guests::Clock { is_one: processors.one_clock, is_sure: clocks.trust == Trust::Good };
    let made = guests::make::<V>(&mut memory, &mut system, &bundle, capabilities, clock);
    let vcpus = made.unwrap_or_else(|error| refuse(log, error));
    keep_images(&mut system, &bundle);
    let shared = Shared::<V> {
        common: Common {
            system: Box::leak(Box::new(system)),
            log,
            apic_ids: processors.apic_ids.clone().leak(),
            clocks,
            selftest: Selftest::asked(handover.command_line),
        },
        parking: Box::leak(Box::new(Parking::new(vcpus))),
    };
    let mut cpu = shared.join(CpuId(0), apic, processor);
    cpu.core.hardware.refer_to(references);
    if let Err((id, error)) = cpu.boot_guests() {
        let name = manifest.guests.get(usize::from(id.0)).map_or("?", |guest| guest.name.as_str());
        refuse(log, format_args!("guest {name}: kernel: {error}"));
    }
    processors.release(shared);
    shared.common.fail_if_asked(CpuId(0));
    let verdict = if cpu.run_forever() { Verdict::Well } else { Verdict::GuestEndedBadly };
    end(log, verdict)
}

/// Enables virtualization on the first processor.
fn enable<V: Vendor>(memory: &mut Memory, clocks: Found, log: &SerialLog) -> V::Processor {
    let Some(pages) = memory.pages(V::PROCESSOR_PAGES, PAGE_BYTES) else {
        refuse(log, TOO_LITTLE_MEMORY);
    };
    // SAFETY: CPL 0 on the only processor; the pages were just taken for this.
    let processor = unsafe { V::enable(pages, clocks.tsc) };
    processor.unwrap_or_else(|missing| refuse(log, missing))
}

/// Finds the interrupt controllers, masks the devices' inputs, and logs the number of processors that are not used.
fn controllers(memory: &Memory, handover: &Handover, apic: &LocalApic, log: &SerialLog) -> Controllers {
    let controllers =
        firmware::controllers(|at, into| memory.read_firmware(at, into), handover.rsdp, apic.id());
    let controllers = controllers.unwrap_or_else(|error| {
        say(log, format_args!("one processor only: {error}"));
        Controllers::of_pc()
    });
    // SAFETY: firmware's tables name the I/O APICs, or this is a PC's usual one; they lie below the 4 GiB that are mapped, and only this
    // code drives them.
    unsafe { ioapic::take_over(&controllers.inputs, apic.id()) };
    let LeftOut { too_many, wide } = controllers.left_out;
    for (count, reason) in [(too_many, "more than are used"), (wide, "ids from 255 on are not used")] {
        if count != 0 {
            say(log, format_args!("cpu: left out count={count} reason={reason}"));
        }
    }
    controllers
}

/// Logs a description of the machine.
fn describe<V: Vendor>(
    memory: &Memory,
    clocks: Found,
    capabilities: V::Capabilities,
    (cpus, guests): (u8, usize),
    log: &SerialLog,
) {
    say(
        log,
        format_args!(
            "version={} vt={} cpus={cpus} tsc_khz={} within_ppm={} apic_khz={} free_mib={} guests={guests}",
            env!("CARGO_PKG_VERSION"),
            V::NAME,
            clocks.tsc.khz(),
            clocks.within_ppm,
            clocks.apic.khz(),
            memory.free_bytes() >> 20
        ),
    );
    if let Some(weakness) = V::weakness(capabilities) {
        say(log, weakness);
    }
}

fn grow_heap(memory: &mut Memory, bytes: u64, log: &SerialLog) {
    if bytes > heap::LEAST_BYTES && !HEAP.extend(memory, bytes - heap::LEAST_BYTES) {
        let kib = bytes >> 10;
        refuse(log, format_args!("{TOO_LITTLE_MEMORY}: the heap needs {kib} KiB"));
    }
}

/// Configures the console by the command line: the word `terminal` means that people sit at a terminal, `input=` names the guest that
/// gets their input.
fn attach_people(system: &mut System<Ram>, manifest: &Manifest, command_line: &str) {
    let mut words = command_line.split_whitespace();
    let input = words.clone().find_map(|word| word.strip_prefix("input="));
    system.has_terminal = words.any(|word| word == "terminal");
    if let Some(n) = manifest.guests.iter().position(|guest| Some(guest.name.as_str()) == input) {
        system.input_guest = GuestId(u16::try_from(n).unwrap_or(0));
    }
}

/// Keeps the guests' images for restarts, and records the boot, with their names, for programs.
fn keep_images(system: &mut System<Ram>, bundle: &Bundle<'static>) {
    let guests = &bundle.manifest().guests;
    let image = |guest: &GuestConfig| Image {
        kernel: bundle.payload(guest.kernel),
        initrd: guest.initrd.map(|initrd| bundle.payload(initrd)),
    };
    system.images = guests.iter().map(image).collect();
    system.telemetry.lock().keep(Record::Boot {
        version: env!("CARGO_PKG_VERSION").into(),
        tsc_khz: system.tsc.khz(),
        guests: guests.iter().map(|guest| guest.name.clone()).collect(),
    });
}
