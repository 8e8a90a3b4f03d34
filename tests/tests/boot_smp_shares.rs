//! Shares of two processors. Each machine has the host to itself: its two processors are two threads there.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use runner::machine::{Ended, Machine, Outcome};
use runner::scenario::Scenario;
use std::path::Path;
use std::sync::Mutex;

/// Held while a machine runs.
static HOST: Mutex<()> = Mutex::new(());

fn run(name: &str, change: impl FnOnce(&mut Scenario)) -> Outcome {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name);
    let mut scenario = Scenario::load(&file).unwrap_or_else(|refusal| panic!("{refusal}"));
    change(&mut scenario);
    let machine = Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"));
    let _alone = HOST.lock();
    machine.run().unwrap_or_else(|error| panic!("{error}"))
}

/// What the host's own scheduling may add to a deviation: two threads of QEMU beside whatever else runs there.
const NOISE: f64 = 0.03;

/// Runs at most: what else runs on the host only adds to a deviation, and a scheduler that does not hold the shares is
/// as far off in each run.
const RUNS: usize = 3;

/// Runs until the shares are as they should be.
fn hold(due: [f64; 3], change: fn(&mut Scenario)) {
    let mut errors = Vec::new();
    for _ in 0..RUNS {
        let outcome = run("weights_smp.toml", change);
        assert_eq!(cpus_of(&outcome), 2);
        let error = worst_error(&outcome, due);
        if error < NOISE {
            return;
        }
        errors.push(error);
    }
    panic!("{errors:?}");
}

fn cpus_of(outcome: &Outcome) -> usize {
    outcome.marks_of("heavy").first().map_or(0, |mark| mark.cpus.len())
}

/// Largest deviation from these shares of the machine between the two marks of `heavy`, as a part of the share. Time in the
/// hypervisor is its guest's: under a translator a switch takes some 50 µs of a turn of 2 ms.
fn worst_error(outcome: &Outcome, due: [f64; 3]) -> f64 {
    assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
    let marks = outcome.marks_of("heavy");
    let [before, after] = marks[..] else { panic!("two marks: {}", outcome.transcript()) };
    let ticks = ["light", "middle", "heavy"].map(|guest| {
        let id = outcome.id_of(guest).unwrap_or_else(|| panic!("no guest {guest}"));
        (after.service_ticks(id) - before.service_ticks(id)) as f64
    });
    let sum: f64 = ticks.iter().sum();
    let errors = ticks.iter().zip(due).map(|(got, due)| (got / sum / due - 1.0).abs());
    println!("shares {:?}", ticks.map(|got| got / sum));
    errors.fold(0.0, f64::max)
}

#[test]
fn guests_of_two_vcpus_hold_their_shares_of_two_processors() {
    hold([1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0], |_| {});
}

#[test]
fn guests_of_one_vcpu_hold_what_of_their_shares_they_can_use() {
    hold([1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0], |scenario| {
        for guest in &mut scenario.guests {
            guest.vcpus = 1;
            guest.command_line = guest.command_line.replace("cpus=2", "cpus=1");
        }
    });
}
