//! Debian's Linux with nothing beneath it: what it does here, it has to do above the hypervisor.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use runner::images;
use runner::machine::{Board, Device, Ended, Line, Machine, Outcome};
use std::fs::File;
use std::path::Path;
use std::thread;
use tempfile::TempDir;

/// Words for every run: the console, no chance in it, and a machine that ends when the kernel panics.
const WORDS: &str = "console=ttyS0 quiet nokaslr random.trust_cpu=off panic=-1";
/// Words where there is no PCI to look for, and where instructions are counted: the TSC then runs at 1 GHz.
const COUNTED_MICROVM_WORDS: &str = "pci=off tsc_early_khz=1000000";
/// A processor that gives no random numbers: they would be different on every run.
const WITHOUT_CHANCE: &str = "max,-rdrand,-rdseed";
/// Memory of each machine, in MiB.
const MEMORY_MIB: u32 = 128;
/// Size of the disk.
const DISK_BYTES: u64 = 4 << 20;

fn linux(words: &str) -> Machine {
    let (kernel, initrd) = (images::linux_kernel(), images::linux_initrd());
    for image in [&kernel, &initrd] {
        assert!(image.is_file(), "{}: no such image; `cargo xtask linux` makes it", image.display());
    }
    let machine = Machine::bare(kernel).initrd(Some(initrd)).memory_mib(MEMORY_MIB);
    machine.command_line(WORDS).command_line(words)
}

fn run(machine: &Machine) -> Outcome {
    machine.run().unwrap_or_else(|error| panic!("{error}"))
}

/// The line that begins so.
fn line<'a>(outcome: &'a Outcome, beginning: &str) -> &'a str {
    let found = outcome.console.iter().find(|line| line.text.starts_with(beginning));
    found.map_or_else(|| panic!("no {beginning:?}: {}", outcome.transcript()), |line| line.text.as_str())
}

/// The value of `key=` in a line.
fn number(line: &str, key: &str) -> u64 {
    let words = line.split_whitespace().filter_map(|word| word.split_once('='));
    let value = words.filter(|(name, _)| *name == key).find_map(|(_, value)| value.parse().ok());
    value.unwrap_or_else(|| panic!("no number {key} in {line:?}"))
}

/// Boots a PC that does one thing, and checks that it says it has done it and switches off.
fn done(what: &str, words: &str) -> Outcome {
    let outcome = run(&linux(&format!("comity.do={what} {words}")));
    assert_eq!(outcome.ended, Ended::PoweredOff, "{}", outcome.transcript());
    assert_eq!(line(&outcome, "#ok "), format!("#ok linux do={what}"));
    outcome
}

#[test]
fn it_comes_up_with_every_processor_and_switches_off() {
    let outcome = run(&linux("").cpus(2));
    assert_eq!(outcome.ended, Ended::PoweredOff, "{}", outcome.transcript());
    assert_eq!(number(line(&outcome, "#linux up do=hello"), "cpus"), 2);
    line(&outcome, "#ok linux do=hello");
}

#[test]
fn loads_run_as_long_as_they_are_asked_to() {
    for (what, key) in [("spin", "iterations"), ("mix", "rounds")] {
        let outcome = done(what, "comity.seconds=1");
        let said = line(&outcome, &format!("#linux {what} "));
        assert!(number(said, key) > 0 && number(said, "ns") >= 1_000_000_000, "{said}");
    }
    done("idle", "comity.seconds=1");
}

#[test]
fn it_panics_and_restarts_when_told_to() {
    let panicked = run(&linux("comity.do=panic"));
    assert_eq!(panicked.ended, Ended::PoweredOff, "{}", panicked.transcript());
    let said = |outcome: &Outcome, words: &str| outcome.console.iter().any(|line| line.text.contains(words));
    assert!(
        said(&panicked, "Kernel panic - not syncing: sysrq triggered crash"),
        "{}",
        panicked.transcript()
    );
    done("reboot", "");
}

#[test]
fn a_word_it_does_not_know_is_refused() {
    let outcome = run(&linux("comity.do=nonsense"));
    assert_eq!(line(&outcome, "#bad "), "#bad linux do=nonsense why=unknown word");
}

#[test]
fn a_shell_obeys_what_is_typed() {
    let machine = linux("comity.do=shell");
    let mut running = machine.start().unwrap_or_else(|error| panic!("{error}"));
    let ready = running.wait_for(|line: &Line| line.text.starts_with("#linux shell"));
    assert!(ready.is_some(), "{}", running.finish().transcript());
    running.type_text("sleep 100 &\necho $((6 * 7)) | cat\njobs\nkill %1\nexit\n");
    let outcome = running.finish();
    assert_eq!(outcome.ended, Ended::PoweredOff, "{}", outcome.transcript());
    line(&outcome, "42");
    line(&outcome, "[1]+  Running");
    line(&outcome, "#ok linux do=shell");
    let complaint = outcome.console.iter().find(|line| line.text.contains("job control turned off"));
    assert_eq!(complaint, None, "the console is the shell's terminal");
}

/// A machine without PCI. Instructions are counted, so that Linux can be told how fast the TSC runs: it could not measure that by the
/// PIT on a busy host, and there is nothing else here to measure it by.
fn microvm(devices: Vec<Device>) -> Machine {
    linux(COUNTED_MICROVM_WORDS).board(Board::MicroVm(devices)).icount()
}

#[test]
fn counted_runs_repeat_to_the_nanosecond() {
    let machine = microvm(Vec::new()).cpu_model(WITHOUT_CHANCE).command_line("comity.do=spin");
    let [first, second] = [run(&machine), run(&machine)];
    line(&first, "#ok linux do=spin");
    assert_eq!(line(&first, "#linux spin"), line(&second, "#linux spin"));
}

/// One of two machines with a cable between them.
fn connected(folder: &Path, role: &str, mut devices: Vec<Device>) -> Machine {
    let (number, other, peer) = if role == "server" { (1, "client", 2) } else { (2, "server", 1) };
    devices.push(Device::Net { number, own: folder.join(role), other: folder.join(other) });
    let words =
        format!("comity.do=script comity.role={role} comity.ip=10.0.0.{number} comity.peer=10.0.0.{peer}");
    microvm(devices).command_line(&words)
}

#[test]
fn two_of_them_pass_the_acceptance_script_with_a_disk_and_a_cable() {
    let folder = TempDir::new().unwrap_or_else(|error| panic!("{error}"));
    let disk = folder.path().join("disk");
    File::create(&disk).and_then(|file| file.set_len(DISK_BYTES)).unwrap_or_else(|error| panic!("{error}"));
    let server = connected(folder.path(), "server", vec![Device::Disk(disk)]);
    let client = connected(folder.path(), "client", Vec::new());
    let (served, asked) = thread::scope(|scope| {
        let server = scope.spawn(|| run(&server));
        let client = run(&client);
        (server.join().unwrap_or_else(|_| panic!("the server's thread panicked")), client)
    });
    for outcome in [&served, &asked] {
        assert_eq!(outcome.ended, Ended::PoweredOff, "{}", outcome.transcript());
        for part in ["timers", "signals", "pipes", "disk", "net found=yes"] {
            line(outcome, &format!("#linux part={part}"));
        }
        line(outcome, "#ok linux do=script");
    }
    assert_eq!(number(line(&served, "#linux part=disk found=yes"), "sectors") * 512, DISK_BYTES);
}
