//! Rows of Linux: Debian's kernel as it is in the package, bare, as a full guest, and with KVM's interface.
//!
//! Bare is QEMU's microvm, which has what our guests have: LAPIC, IOAPIC, 16550, 8254 and ACPI, and no PCI. It starts the kernel by its
//! firmware and the 16-bit setup code, so a machine of its own finds out what these take ([`entry`]). It has the features that our guests
//! see, and where its boot is measured it does without the APIC's timer, which it would count for 0.1 s first: our guests are told.

mod entry;
mod wall;

use super::figure::{Figure, Mode, value};
use super::job::{Clock, Job};
use super::read::{self, Reader};
use super::together;
use super::window::real;
use crate::failure::{Attempt, Failure, Outcome};
use crate::{linux, workspace};
use hv_format::manifest;
use runner::images;
use runner::machine::{Board, Machine};
use runner::refusal::Refusal;
use runner::scenario::{Guest, Scenario};
use std::fs;
use std::path::PathBuf;

/// What every figure's name begins with.
const PREFIX: &str = "linux";
/// Random numbers of the processor would make each run another.
const WITHOUT_CHANCE: &str = "max,+svm,+npt,-rdrand,-rdseed";
/// What is left of it for our guests: a kernel does more for a processor that has more.
const AS_OURS_ARE: &str = "max,-svm,-rdrand,-rdseed,-la57,-xsave,-pku,-umip,-monitor,-rdtscp,-mpx";
/// Words that have a guest mark what it does; the bare machine has no port for that.
const MARKS: &str = " comity.marks=1";
/// Words that have the bare kernel say when userspace began.
const BARE_MARKS: &str = " comity.marks=tsc";
/// The emulated APIC has no TSC deadline: Linux waits for 26 jiffies to learn its frequency, unless it does without its timer. It then has
/// no ticks at all, which is enough to come to userspace and saves the bare machine some more.
const WITHOUT_CALIBRATION: &str = " nolapic_timer";

/// For machines whose figures are not read from one of them alone.
const NOTHING: Reader = |_| Ok(Vec::new());

const HYPERVISED: &[Mode] = &[Mode::Kvm, Mode::Full];
const ALL: &[Mode] = &[Mode::Kvm, Mode::Full, Mode::Bare];

/// Scenarios of `tests/scenarios/bench` in which instructions are counted.
const COUNTED: [(&str, &[Mode], Reader); 7] = [
    ("linux_boot", HYPERVISED, read::linux::boot),
    ("linux_idle", HYPERVISED, read::linux::idle),
    ("linux_idle_early", HYPERVISED, read::linux::idle_early),
    ("linux_spin", ALL, read::linux::spin),
    ("linux_mix", ALL, read::linux::mix),
    ("linux_two", HYPERVISED, read::linux::two),
    ("linux_four", HYPERVISED, read::linux::four),
];

/// Figures over the bare machine's: name, and of what.
const OF_BARE: [(&str, &str); 3] = [
    ("linux.boot_instructions_of_bare", "linux.boot_instructions"),
    ("linux.spin_of_bare", "linux.spin_iterations"),
    ("linux.mix_of_bare", "linux.mix_iterations"),
];

/// Measures all; what went wrong comes back beside the figures.
pub fn run() -> (Vec<Figure>, Vec<String>) {
    let jobs = match linux::images().and_then(|_| counted()) {
        Ok(jobs) => jobs,
        Err(failure) => return (Vec::new(), vec![failure.message]),
    };
    let (mut figures, mut troubles) = together::run(&jobs);
    match bare_boot() {
        Ok(figure) => figures.push(figure),
        Err(failure) => troubles.push(failure.message),
    }
    figures.extend(of_bare(&figures));
    match wall::measure() {
        Ok(some) => figures.extend(some),
        Err(trouble) => troubles.push(trouble),
    }
    (figures, troubles)
}

fn counted() -> Outcome<Vec<Job>> {
    let mut jobs = Vec::new();
    for (file, modes, read) in COUNTED {
        for mode in modes {
            let words = if *mode == Mode::Bare { BARE_MARKS } else { MARKS };
            jobs.push(job(file, *mode, Clock::Counted, words, read)?);
        }
    }
    Ok(jobs)
}

/// A scenario with more words on every guest's command line.
fn scenario(file: &str, mode: Mode, words: &str) -> Outcome<Scenario> {
    let path = workspace::root().join("tests/scenarios/bench").join(file).with_extension("toml");
    let mut scenario = Scenario::load(&path).map_err(refused)?;
    for guest in &mut scenario.guests {
        guest.mode = if mode == Mode::Kvm { manifest::Mode::Kvm } else { manifest::Mode::Full };
        guest.mark_port = true;
        guest.command_line.push_str(words);
    }
    Ok(scenario)
}

fn refused(refusal: Refusal) -> Failure {
    Failure::new(refusal.to_string())
}

/// A machine of a scenario. Bare, the first guest's kernel runs alone.
fn job(file: &str, mode: Mode, clock: Clock, words: &str, read: Reader) -> Outcome<Job> {
    let scenario = scenario(file, mode, words)?;
    let machine = match (mode, scenario.guests.first()) {
        (Mode::Bare, Some(guest)) => bare(guest),
        (_, _) => Machine::of_scenario(&scenario).map_err(refused)?.cpu_model(WITHOUT_CHANCE),
    };
    let machine = if clock == Clock::Counted { machine.icount() } else { machine };
    let guests = scenario.guests.into_iter().map(|guest| guest.name).collect();
    Ok(Job::of_machine(file, PREFIX, mode, guests, machine, read))
}

/// A guest's kernel with nothing beneath it.
fn bare(guest: &Guest) -> Machine {
    Machine::bare(guest.kernel.clone())
        .initrd(guest.initrd.clone())
        .board(Board::MicroVm(Vec::new()))
        .cpu_model(AS_OURS_ARE)
        .command_line(&guest.command_line)
        .memory_mib(guest.memory_mib)
}

/// Instructions of a bare boot from the kernel's entry to userspace.
fn bare_boot() -> Outcome<Figure> {
    let words = format!("{BARE_MARKS}{WITHOUT_CALIBRATION}");
    let scenario = scenario("linux_boot", Mode::Bare, &words)?;
    let guest = scenario.guests.first().ok_or_else(|| Failure::new("linux_boot: no guest in it"))?;
    let userspace = first_number(&bare(guest), |line| line.strip_prefix("#linux tsc=")?.parse().ok())?;
    let stand_in = Guest { kernel: stand_in()?, ..guest.clone() };
    // What firmware and setup code have taken when the kernel is entered.
    let entry = first_number(&bare(&stand_in), |line| u64::from_str_radix(line, 16).ok())?;
    let instructions = userspace
        .checked_sub(entry)
        .ok_or_else(|| Failure::new("userspace came before the kernel's entry"))?;
    Ok(Figure::single("linux.boot_instructions".into(), Mode::Bare, "instructions", real(instructions)))
}

/// Writes the stand-in of Debian's kernel, and returns its file.
fn stand_in() -> Outcome<PathBuf> {
    let folder = workspace::root().join("target/bench");
    let (kernel, file) = (images::linux_kernel(), folder.join("linux-entry"));
    let image = entry::stand_in(fs::read(&kernel).attempt(kernel.display())?);
    let image = image.ok_or_else(|| Failure::new(format!("{}: no bzImage", kernel.display())))?;
    fs::create_dir_all(&folder).attempt(folder.display())?;
    fs::write(&file, image).attempt(file.display())?;
    Ok(file)
}

/// Boots a machine until it has said a number, and stops it then: a kernel without ticks does not switch off.
fn first_number(machine: &Machine, number: fn(&str) -> Option<u64>) -> Outcome<u64> {
    let machine = machine.clone().icount();
    let mut running = machine.start().attempt(machine.image().display())?;
    let line = running.wait_for(|line| number(line.text.trim()).is_some());
    let said = line.and_then(|line| number(line.text.trim()));
    said.ok_or_else(|| {
        Failure::new(format!("{}: the kernel did not print its time", machine.image().display()))
    })
}

/// What was measured in either mode over the same on the bare machine.
fn of_bare(figures: &[Figure]) -> Vec<Figure> {
    let over = |(name, of): (&str, &str), mode: Mode| {
        let ratio = value(figures, of, mode)? / value(figures, of, Mode::Bare)?;
        Some(Figure::single(name.into(), mode, "times bare", ratio))
    };
    let modes = HYPERVISED.iter();
    modes.flat_map(|mode| OF_BARE.into_iter().filter_map(move |names| over(names, *mode))).collect()
}
