//! Guests of both kinds, with one vCPU and with several, on one processor: they all get through, and each its share.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use hv_format::record::Ending;
use runner::machine::{Ended, Machine, Outcome};
use runner::scenario::Scenario;
use std::path::Path;

fn run(name: &str) -> Outcome {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name);
    let scenario = Scenario::load(&file).unwrap_or_else(|refusal| panic!("{refusal}"));
    let machine = Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"));
    let outcome = machine.run().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
    for guest in &scenario.guests {
        let endings = outcome.endings_of(&guest.name);
        assert!(matches!(endings[..], [(Ending::Off, _)]), "{}: {}", guest.name, outcome.transcript());
    }
    outcome
}

#[test]
fn ten_processors_of_four_guests_share_one_and_no_lock_or_call_between_them_is_lost() {
    let outcome = run("mixed.toml");
    for (guest, cpus) in [("full-1", 1), ("coop-1", 1), ("full-4", 4), ("coop-4", 4)] {
        let number = |key| outcome.number(guest, "smp", key);
        assert_eq!(number("cpus"), Some(cpus), "{}", outcome.transcript());
        assert_eq!(number("sum"), Some(cpus * 500), "{guest}: {}", outcome.transcript());
        assert_eq!(number("answers"), Some(cpus - 1), "{guest}: {}", outcome.transcript());
    }
}

/// Share of guest time between the two marks of `heavy`.
fn shares(outcome: &Outcome) -> [f64; 3] {
    let marks = outcome.marks_of("heavy");
    let [before, after] = marks[..] else { panic!("two marks: {}", outcome.transcript()) };
    let ticks = ["light", "middle", "heavy"].map(|guest| {
        let id = outcome.id_of(guest).unwrap_or_else(|| panic!("no guest {guest}"));
        (after.guest_ticks(id) - before.guest_ticks(id)) as f64
    });
    let sum: f64 = ticks.iter().sum();
    assert!(sum > 0.99 * (after.tsc - before.tsc) as f64, "the processor was theirs: {ticks:?}");
    ticks.map(|ticks| ticks / sum)
}

#[test]
fn weights_of_one_two_and_four_give_shares_of_one_two_and_four_sevenths_whatever_the_number_of_vcpus() {
    let outcome = run("weights.toml");
    for (share, weight) in shares(&outcome).into_iter().zip([1.0, 2.0, 4.0]) {
        let due = weight / 7.0;
        assert!((share / due - 1.0).abs() < 0.02, "{share} of {due}: {:?}", shares(&outcome));
    }
}
