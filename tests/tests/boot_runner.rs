//! The runner itself, on machines without a hypervisor.
#![cfg(feature = "boot")]

use std::time::{Duration, Instant};
use tests::images;
use tests::machine::{Ended, Machine, Outcome, Speaker, StartError};

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
