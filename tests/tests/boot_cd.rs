//! A CD, or the same on a stick, on machines like a PC: by BIOS and by UEFI, with no device that takes an exit code.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use runner::machine::{Ended, Kind, Machine};
use runner::scenario::Scenario;
use std::path::Path;
use tests::screen::{self, Surface};

fn hello() -> Machine {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/hello.toml");
    let scenario = Scenario::load(&file).unwrap_or_else(|refusal| panic!("{refusal}"));
    Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// Two guests run to their end, and the machine is powered off as its ACPI tables say.
fn powered_off(machine: Machine) {
    let outcome = machine.without_exit_device().run().unwrap_or_else(|error| panic!("{error}"));
    let transcript = outcome.transcript();
    assert_eq!(outcome.ended, Ended::PoweredOff, "{transcript}");
    assert!(outcome.hypervisor_lines().contains(&"end: verdict=Well"), "{transcript}");
    assert_eq!(transcript.matches("powering off").count(), 2, "{transcript}");
}

#[test]
fn a_pc_with_bios_runs_two_guests_from_a_cd_and_powers_off() {
    powered_off(hello().on(Kind::QemuCd));
}

#[test]
fn a_pc_with_uefi_runs_two_guests_from_a_cd_and_powers_off() {
    powered_off(hello().on(Kind::QemuUefi));
}

#[test]
fn a_pc_with_bios_does_from_a_stick() {
    powered_off(hello().on(Kind::QemuCd).from_stick());
}

#[test]
fn a_pc_with_uefi_does_from_a_stick() {
    powered_off(hello().on(Kind::QemuUefi).from_stick());
}

/// The same without COM1: what people read is on the screen, and stays a while before the machine goes dark.
fn shown(kind: Kind, surface: Surface) {
    let picture =
        tempfile::Builder::new().suffix(".ppm").tempfile().unwrap_or_else(|error| panic!("{error}"));
    let machine = hello().on(kind).without_exit_device().without_com1();
    let lines =
        screen::read_at_end(&machine, surface, picture.path()).unwrap_or_else(|error| panic!("{error}"));
    let text = lines.join("\n");
    assert!(text.contains("\ncomity: end: verdict=Well\n"), "{text}");
    for guest in ["[full] hello: mode=full cpus=1", "[coop] hello: sleeps=3, powering off"] {
        assert!(text.contains(guest), "{guest}: {text}");
    }
}

#[test]
fn a_pc_with_bios_and_no_com1_shows_text() {
    shown(Kind::QemuCd, Surface::Text);
}

#[test]
fn a_pc_with_uefi_and_no_com1_shows_pixels() {
    shown(Kind::QemuUefi, Surface::Pixels);
}
