//! Makes the machine and its guests, and runs them.
#![expect(unsafe_code, reason = "takes the machine's parts into service, each once")]

use super::Handover;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid_count;
use core::fmt::Write;
use hv_core::base::id::GuestId;
use hv_core::base::time::{Frequency, Tsc};
use hv_core::dispatch::core::Core;
use hv_core::dispatch::cpuid;
use hv_core::dispatch::run::Cpu;
use hv_core::dispatch::vcpu::Vcpu;
use hv_core::machine::arch::apic::LocalApic;
use hv_core::machine::arch::exit::{Verdict, power_off};
use hv_core::machine::arch::ioapic;
use hv_core::machine::arch::serial::Serial;
use hv_core::machine::arch::{calibrate, descriptors, interrupts, time};
use hv_core::machine::memory::{HypervisorHeap, Memory, Ram};
use hv_core::machine::platform::Platform;
use hv_core::machine::vt::svm::{Maps, Svm, SvmOn, SvmVcpu};
use hv_core::policy::config::{Bundle, Manifest, TscTrust};
use hv_core::policy::guest::Image;
use hv_core::policy::trace::Record;

mod guests;

#[global_allocator]
static HEAP: HypervisorHeap = HypervisorHeap::empty();

/// Pages of the heap: guests' vCPUs, tables and telemetry.
const HEAP_PAGES: u64 = 8192;

/// Says why nothing is started, and powers off.
fn refuse(mut line: Serial, why: core::fmt::Arguments<'_>) -> ! {
    let _ = writeln!(line, "comity: refused: {why}");
    power_off(Verdict::Refused)
}

/// From the handover to the last guest's end.
pub fn main(handover: Handover) -> ! {
    // SAFETY: this is the first and only code that drives the two UARTs.
    let (mut com1, com2) = unsafe { (Serial::new(Serial::COM1), Serial::new(Serial::COM2)) };
    // SAFETY: the entry code took from the loader's map what is RAM and not the image, the bundle or the firmware's, all of
    // it below the 4 GiB that are mapped.
    let mut memory = unsafe { Memory::new(handover.frames) };
    if !HEAP.init(&mut memory, HEAP_PAGES) {
        refuse(
            com1,
            format_args!("the machine has too little memory: {} KiB free", memory.free_bytes() / 1024),
        );
    }
    descriptors::install();
    interrupts::install();
    // SAFETY: CPL 0, the APIC's page is below 4 GiB and mapped, and this is the only code that drives it.
    let mut apic = unsafe { LocalApic::enable() };
    let Some(clocks) = calibrate::measure(&mut apic) else {
        refuse(com1, format_args!("the 8254 timer does not count"));
    };
    let (Some(host_save), Some(host_vmcb)) = (memory.pages(1, 4096), memory.pages(1, 4096)) else {
        refuse(com1, format_args!("the machine has too little memory"));
    };
    // SAFETY: CPL 0 on the only processor; the frame was just taken for this.
    let svm = match unsafe { SvmOn::enable(host_save) } {
        Ok(on) => Svm::new(on, host_vmcb),
        Err(missing) => refuse(com1, format_args!("{missing}")),
    };
    let bundle = match Bundle::parse(handover.bundle) {
        Ok(bundle) => bundle,
        Err(error) => refuse(com1, format_args!("{error}")),
    };
    let manifest = bundle.manifest();
    let wall_ns =
        (time::wall_clock_seconds() * 1_000_000_000).wrapping_sub(clocks.tsc.ns(time::now().since(Tsc(0))));
    com1.interrupt_on_receive();
    // SAFETY: the page lies below the 4 GiB that are mapped, every PC has an I/O APIC there, and only this code drives it.
    unsafe { ioapic::route_com1() };
    let platform = Platform::new(apic, clocks, com1, com2);
    let mut core = Core::new(platform, clocks.tsc, wall_ns);
    core.say(format_args!(
        "version={} tsc_khz={} apic_khz={} free_mib={} guests={}",
        env!("CARGO_PKG_VERSION"),
        clocks.tsc.khz(),
        clocks.apic.khz(),
        memory.free_bytes() >> 20,
        manifest.guests.len()
    ));
    let input = handover.command_line.split_whitespace().find_map(|word| word.strip_prefix("input="));
    if let Some(n) = manifest.guests.iter().position(|guest| Some(guest.name.as_str()) == input) {
        core.input_guest = GuestId(u16::try_from(n).unwrap_or(0));
    }
    core.record(Record::Boot {
        version: env!("CARGO_PKG_VERSION").into(),
        tsc_khz: clocks.tsc.khz(),
        guests: manifest.guests.iter().map(|guest| guest.name.clone()).collect(),
    });
    let vcpus = match guests::make(&mut memory, &mut core, manifest) {
        Ok(vcpus) => vcpus,
        Err(error) => {
            core.say(format_args!("refused: {error}"));
            power_off(Verdict::Refused)
        }
    };
    let images = manifest.guests.iter().map(|guest| Image {
        kernel: bundle.payload(guest.kernel),
        initrd: guest.initrd.map(|initrd| bundle.payload(initrd)),
    });
    let mut cpu = Cpu::new(svm, core, vcpus, images.collect());
    if let Err((id, error)) = cpu.boot_guests() {
        let name = manifest.guests.get(usize::from(id.0)).map_or("?", |guest| guest.name.as_str());
        cpu.core.say(format_args!("refused: guest {name}: kernel: {error:?}"));
        power_off(Verdict::Refused)
    }
    power_off(if cpu.run_forever() { Verdict::Well } else { Verdict::GuestEndedBadly })
}
