//! Memory goes from guest to guest while their vCPUs run on several processors.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use runner::machine::{Ended, Machine};
use runner::scenario::Scenario;
use std::path::Path;

fn lent(cpus: u8) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/memory.toml");
    let mut scenario = Scenario::load(&file).unwrap_or_else(|refusal| panic!("{refusal}"));
    scenario.machine.cpus = cpus;
    let machine = Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"));
    let outcome = machine.run().unwrap_or_else(|error| panic!("{error}"));
    let transcript = outcome.transcript();
    assert_eq!(outcome.ended, Ended::Well, "{transcript}");
    for (guest, taken) in [("lends", 20 * 20), ("borrows", 40 * 5 + 16)] {
        assert_eq!(outcome.number(guest, "memory", "taken"), Some(taken), "{guest}: {transcript}");
        assert_eq!(outcome.number(guest, "memory", "dirty"), Some(0), "{guest}: {transcript}");
    }
    assert_eq!(outcome.number("beside", "churn", "sum"), Some(400), "{transcript}");
}

#[test]
fn on_one_processor_memory_goes_from_guest_to_guest_and_comes_cleared() {
    lent(1);
}

#[test]
fn on_two_processors_memory_goes_from_guest_to_guest_and_comes_cleared() {
    lent(2);
}
