//! The runner itself, on machines without a hypervisor.
#![cfg(feature = "boot")]
#![expect(clippy::unwrap_used, reason = "the helpers of a test fail the test")]

mod common;

use hv_format::record::Record;
use runner::images;
use runner::machine::{Ended, Machine, Outcome, Running, Speaker, StartError};
use std::fs;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn hello() -> Machine {
    Machine::bare(images::guest("hello")).memory_mib(64)
}

fn texts(outcome: &Outcome) -> Vec<&str> {
    outcome.console.iter().map(|line| line.text.as_str()).collect()
}

#[test]
fn a_bare_guest_says_its_lines_and_powers_off() {
    let outcome = hello().command_line("word").run().unwrap();
    assert!(matches!(outcome.ended, Ended::Well | Ended::PoweredOff), "{}", outcome.transcript());
    assert!(texts(&outcome).contains(&"hello: command line \"word\""), "{}", outcome.transcript());
    assert!(outcome.console.iter().all(|line| line.speaker == Speaker::Unnamed), "{}", outcome.transcript());
    assert_eq!(outcome.emulator_says, "");
}

/// `out` of a byte to a port.
fn out(port: u16, byte: u8) -> Vec<u8> {
    let [low, high] = port.to_le_bytes();
    vec![0x66, 0xba, low, high, 0xb0, byte, 0xee] // mov dx, port; mov al, byte; out dx, al
}

/// Boots code that nothing else is needed for.
fn boot(code: &[u8], drive: impl FnOnce(&mut Running)) -> Outcome {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kernel.elf");
    fs::write(&file, common::kernel(code)).unwrap();
    let mut running =
        Machine::bare(file).memory_mib(32).timeout(Some(Duration::from_secs(20))).start().unwrap();
    drive(&mut running);
    running.finish()
}

#[test]
fn each_value_on_the_exit_port_is_told_apart() {
    let cases = [(0x10, Ended::Well), (0x11, Ended::Badly), (0x12, Ended::Refused), (0x13, Ended::Panicked)];
    for (value, expected) in cases {
        let outcome = boot(&out(0xf4, value), |_| {});
        assert_eq!(outcome.ended, expected, "{}", outcome.transcript());
        assert_eq!(outcome.exit_code, Some(i32::from(value) * 2 + 1));
    }
}

#[test]
fn a_triple_fault_is_told_from_a_power_off() {
    let outcome = boot(&[0x0f, 0x0b], |_| {}); // ud2, and no IDT
    assert_eq!(outcome.ended, Ended::TripleFault, "{}", outcome.transcript());
    assert_eq!(outcome.exit_code, Some(0), "as for a power-off");
}

#[test]
fn what_is_typed_reaches_the_machine_and_what_it_says_comes_at_once() {
    // again: mov dx, 0x3fd; in al, dx; test al, 1; jz again; mov dx, 0x3f8; in al, dx; out dx, al; cmp al, 'q'; jne again
    let mut code =
        vec![0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf7, 0x66, 0xba, 0xf8, 0x03, 0xec, 0xee];
    code.extend([0x3c, b'q', 0x75, 0xed]);
    code.extend(out(0xf4, 0x10));
    let outcome = boot(&code, |running| {
        running.type_text("hello\n");
        let echo = running.wait_for(|line| line.text == "hello");
        assert!(echo.is_some(), "before the machine ends");
        running.type_text("q");
    });
    assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
    assert_eq!(texts(&outcome).last(), Some(&"q"), "{}", outcome.transcript());
}

#[test]
fn records_on_com2_are_decoded_and_a_cut_one_is_counted() {
    let record = Record::Lost { records: 7 };
    let mut frames = postcard::to_allocvec_cobs(&record).unwrap();
    frames.extend([9, 9]);
    let mut code: Vec<u8> = frames.iter().flat_map(|byte| out(0x2f8, *byte)).collect();
    code.extend(out(0xf4, 0x10));
    let outcome = boot(&code, |_| {});
    assert_eq!(outcome.records(), [record], "{}", outcome.transcript());
    assert_eq!(outcome.telemetry.broken_frames, 1);
}

#[test]
fn a_counted_machine_repeats_itself_to_the_tick() {
    let [first, second] = [(); 2].map(|()| hello().icount().run().unwrap());
    assert!(texts(&first).iter().any(|line| line.contains("slept")), "{}", first.transcript());
    assert_eq!(texts(&first), texts(&second));
}

#[test]
fn a_machine_that_does_not_end_in_time_is_stopped_and_says_so() {
    let started = Instant::now();
    let outcome = hello().timeout(Some(Duration::from_millis(20))).run().unwrap();
    assert!(outcome.timed_out(), "{}", outcome.transcript());
    assert_eq!(outcome.exit_code, None, "it was killed");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_is_no_machine_does_not_start() {
    let missing = Machine::bare("/nonexistent/kernel.elf").run();
    assert!(matches!(missing, Err(StartError::NoImage(_))), "{missing:?}");
    let outcome = hello().cpu_model("no-such-cpu").run().unwrap();
    assert_eq!(outcome.ended, Ended::Emulator(Some(1)), "{}", outcome.transcript());
    assert!(outcome.emulator_says.contains("no-such-cpu"), "{}", outcome.transcript());
}
