//! What the hypervisor refuses to start: one line that names what and where, exit code 0x12, and no guest has run.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use hv_format::manifest::{Devices, GuestConfig, MAGIC, Mode, Payload, TscTrust, Visibility};
use runner::bundle::{BundleWriter, GuestFiles};
use runner::machine::{Ended, Kind, Machine, Outcome, Speaker};
use runner::scenario::{Guest, MachineConfig, Scenario};
use runner::{images, telemetry::Telemetry};

fn config() -> GuestConfig {
    let nowhere = Payload { offset_bytes: 0, len_bytes: 0 };
    GuestConfig {
        pin: Vec::new(),
        name: "victim".into(),
        mode: Mode::Full,
        vcpus: 1,
        memory_mib: 16,
        memory_max_mib: 16,
        weight: 100,
        visibility: Visibility::Bit,
        restarts: 0,
        kernel: nowhere,
        initrd: None,
        command_line: String::new(),
        devices: Devices::default(),
        mark_port: false,
    }
}

/// A bundle whose one guest has these bytes for a kernel.
fn bundle_of(kernel: Vec<u8>, config: GuestConfig) -> Vec<u8> {
    let mut writer = BundleWriter::new(TscTrust::Trusted);
    let kernel = writer.file(kernel);
    writer.guest(config, GuestFiles::kernel(kernel));
    writer.finish().unwrap_or_else(|error| panic!("{error}"))
}

fn hello() -> Vec<u8> {
    std::fs::read(images::guest("hello")).unwrap_or_else(|error| panic!("hello: {error}"))
}

/// Boots, and checks that the one line of refusal holds all of `words` and that nothing ran.
fn refused(machine: &Machine, words: &[&str]) {
    let outcome = machine.run().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.ended, Ended::Refused, "{}", outcome.transcript());
    let lines = refusals(&outcome);
    assert_eq!(lines.len(), 1, "{}", outcome.transcript());
    for word in words {
        assert!(lines.iter().any(|line| line.contains(word)), "no {word:?} in\n{}", outcome.transcript());
    }
    let guests_spoke = outcome.console.iter().any(|line| matches!(line.speaker, Speaker::Guest(_)));
    assert!(!guests_spoke, "{}", outcome.transcript());
    assert_eq!(outcome.telemetry, Telemetry::default(), "nothing was counted");
}

fn refusals(outcome: &Outcome) -> Vec<&str> {
    outcome.hypervisor_lines().into_iter().filter(|line| line.starts_with("refused: ")).collect()
}

/// Bochs' Penryn has VMX as it was before EPT.
#[test]
fn a_processor_whose_vmx_lacks_a_control_is_refused_by_the_controls_name() {
    let kernel = std::fs::read(images::guest("hello")).unwrap_or_default();
    let machine = Machine::of_bundle(bundle_of(kernel, config())).on(Kind::BochsIntel);
    refused(&machine.cpu_model("core2_penryn_t9600"), &["VT-x lacks the secondary", "control EPT"]);
}

#[test]
fn a_processor_without_svm_or_nested_paging_is_refused_with_what_to_type() {
    // QEMU's models; Bochs' are below.
    let machine = Machine::of_bundle(bundle_of(hello(), config())).on(Kind::Qemu);
    refused(&machine.clone().cpu_model("qemu64,-svm"), &["neither AMD-V", "nor VT-x", "-cpu max"]);
    refused(&machine.cpu_model("qemu64,+svm,-npt"), &["no nested paging", "+npt"]);
}

#[test]
fn a_file_that_is_no_bundle_is_refused() {
    refused(&Machine::of_bundle(b"MZ, or whatever else somebody boots".to_vec()), &["bundle", "COMITYB3"]);
    refused(&Machine::of_bundle(MAGIC.to_vec()), &["bundle", "truncated at 8 bytes"]);
    let mut cut = bundle_of(hello(), config());
    cut.truncate(8192);
    refused(&Machine::of_bundle(cut), &["guest victim", "Kernel"]);
}

#[test]
fn a_kernel_that_is_no_kernel_is_refused_by_guest() {
    refused(&Machine::of_bundle(bundle_of(vec![0x90; 5000], config())), &["victim", "kernel"]);
    let mut truncated = hello();
    truncated.truncate(5000);
    refused(&Machine::of_bundle(bundle_of(truncated, config())), &["victim", "kernel"]);
}

#[test]
fn a_guest_that_wants_more_than_the_machine_has_is_refused() {
    let greedy = GuestConfig { memory_mib: 2048, memory_max_mib: 2048, ..config() };
    refused(&Machine::of_bundle(bundle_of(hello(), greedy)), &["memory"]);
}

#[test]
fn a_guest_that_fits_runs_where_the_greedy_one_was_refused() {
    let machine = MachineConfig { tsc: TscTrust::Trusted, ..MachineConfig::default() };
    let scenario = Scenario::of_guest(machine, Guest::new("fits", images::guest("hello")));
    let machine = scenario.and_then(|scenario| Machine::of_scenario(&scenario));
    let outcome = machine.unwrap_or_else(|refusal| panic!("{refusal}")).run();
    let outcome = outcome.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
    assert!(refusals(&outcome).is_empty(), "{}", outcome.transcript());
}
