//! A CD on machines like a PC: by BIOS and by UEFI, with no device that takes an exit code.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use std::path::Path;
use tests::machine::{Ended, Kind, Machine};
use tests::scenario::Scenario;

/// Two guests run to their end, and the machine is powered off as its ACPI tables say.
fn powered_off(kind: Kind) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/hello.toml");
    let scenario = Scenario::load(&file).unwrap_or_else(|refusal| panic!("{refusal}"));
    let machine = Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"));
    let outcome = machine.on(kind).without_exit_device().run().unwrap_or_else(|error| panic!("{error}"));
    let transcript = outcome.transcript();
    assert_eq!(outcome.ended, Ended::PoweredOff, "{transcript}");
    assert!(outcome.hypervisor_lines().contains(&"end: verdict=Well"), "{transcript}");
    assert_eq!(transcript.matches("powering off").count(), 2, "{transcript}");
}

#[test]
fn a_pc_with_bios_runs_two_guests_from_a_cd_and_powers_off() {
    powered_off(Kind::QemuCd);
}

#[test]
fn a_pc_with_uefi_runs_two_guests_from_a_cd_and_powers_off() {
    powered_off(Kind::QemuUefi);
}
