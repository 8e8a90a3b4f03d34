//! The panic report: a panic is a bug of the hypervisor, and the developer needs its location.
#![expect(unsafe_code, reason = "walks the stack by frame pointers, and takes the console over")]

use super::handover::{MAPPED, pointer};
use super::processors;
use super::shared::Common;
use core::arch::asm;
use core::fmt::Write;
use core::panic::PanicInfo;
use hv_core::base::id::CpuId;
use hv_core::machine::arch::apic::LocalApic;
use hv_core::machine::arch::console::Console;
use hv_core::machine::arch::exit::{Verdict, power_off};
use hv_core::machine::arch::{percpu, stop};

/// Most stack frames that are printed.
const MAX_FRAMES: usize = 32;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match stop::take_turn() {
        stop::Turn::Mine => {}
        stop::Turn::MineAgain => power_off(Verdict::Panic),
        stop::Turn::Others => stop::here(),
    }
    let work = processors::work();
    if let Some(work) = work {
        // SAFETY: `work` is set, so this processor has come up and its APIC is enabled; the APIC's previous owner does not continue.
        let mut apic = unsafe { LocalApic::as_is() };
        stop::others(&mut apic, work.apic_ids, usize::from(percpu::cpu().0));
    }
    // SAFETY: no other code drives the console any more: the other processors have stopped, or do not answer.
    let mut line = unsafe { Console::new() };
    if let Some(work) = work {
        work.log.rescue(|bytes| line.write(bytes));
    }
    let _ = writeln!(line, "\ncomity: panic: {}", info.message());
    if let Some(at) = info.location() {
        let _ = writeln!(line, "comity: panic at {at}");
    }
    backtrace(&mut line);
    if let Some(work) = work {
        for cpu in (0..).map(CpuId).take(work.apic_ids.len()) {
            describe(&mut line, work, cpu);
        }
    }
    let _ = writeln!(line, "comity: end: verdict={:?}", Verdict::Panic);
    line.finish();
    power_off(Verdict::Panic)
}

fn backtrace(line: &mut Console) {
    let mut frame: u64;
    // SAFETY: reads RBP only.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    for _ in 0..MAX_FRAMES {
        if frame == 0 || !frame.is_multiple_of(8) || frame >= MAPPED - 16 {
            break;
        }
        let pointer = pointer::<u64>(frame);
        // SAFETY: the address is aligned and mapped; the words read are only printed, or checked before use as an address.
        let (next, back) = unsafe { (pointer.read_volatile(), pointer.add(1).read_volatile()) };
        if back == 0 {
            break;
        }
        let _ = writeln!(line, "comity: backtrace {back:#x}");
        frame = if next > frame { next } else { 0 };
    }
}

/// Prints the work of a processor at the panic.
fn describe(line: &mut Console, work: &Common, cpu: CpuId) {
    let number = usize::from(cpu.0);
    let _ = write!(line, "comity: cpu{number}");
    let _ = match stop::stopped_at(number) {
        _ if percpu::cpu() == cpu => write!(line, " panicked"),
        Some(rip) => write!(line, " stopped rip={rip:#x}"),
        None => write!(line, " does not answer"),
    };
    let system = work.system;
    let cpu_table = system.cpu_table.cpu(cpu);
    let running = cpu_table.running().and_then(|(slot, _)| system.vcpus.get(usize::from(slot.0)));
    let _ = match running {
        Some(vcpu) => {
            let guest = system.guest(vcpu.id.guest).map_or("?", |guest| guest.config.name.as_str());
            let place = if cpu_table.mailbox.is_away() { "guest" } else { "hypervisor" };
            write!(line, " in={place} guest={guest} vcpu={} last exits latest first [", vcpu.id.index.0)
        }
        None => writeln!(line, " idle"),
    };
    if let Some(vcpu) = running {
        for (n, class) in vcpu.tally.last_exits().enumerate() {
            let _ = write!(line, "{}{class:?}", if n == 0 { "" } else { ", " });
        }
        let _ = writeln!(line, "]");
    }
}
