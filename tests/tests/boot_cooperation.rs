//! What cooperating guests see and save: waiters, time lost, exits that do not happen, input, channels.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use hv_format::record::{Ending, ExitClass};
use runner::machine::{Ended, Machine, Outcome};
use runner::scenario::Scenario;
use std::path::Path;

fn load(name: &str) -> Scenario {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name);
    Scenario::load(&file).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn machine(scenario: &Scenario) -> Machine {
    Machine::of_scenario(scenario).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// Boots, and checks that every guest ended well.
fn run(scenario: &Scenario) -> Outcome {
    let outcome = machine(scenario).run().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
    for guest in &scenario.guests {
        let endings = outcome.endings_of(&guest.name);
        assert!(matches!(endings[..], [(Ending::Off, _)]), "{}: {}", guest.name, outcome.transcript());
    }
    outcome
}

/// Boots one cooperative guest alone.
fn alone(command_line: &str) -> Outcome {
    let text = format!(
        r#"
        [machine]
        tsc = "trusted"
        icount = true
        [[guest]]
        name = "guest"
        kernel = "exercise"
        mode = "cooperative"
        command_line = "{command_line}"
        "#
    );
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/alone.toml");
    run(&Scenario::parse(&file, text).unwrap_or_else(|refusal| panic!("{refusal}")))
}

/// Exits between the only guest's two marks that scheduling caused, and all exits.
fn exits(outcome: &Outcome) -> (u64, u64) {
    let marks = outcome.marks_of("guest");
    let [before, after] = marks[..] else { panic!("two marks: {}", outcome.transcript()) };
    let id = outcome.id_of("guest").unwrap_or_else(|| panic!("no guest"));
    // Bochs' clock is measured, to some 100 ppm.
    assert!(after.tsc - before.tsc >= 999_000_000, "a second, at one tick a nanosecond");
    let of = |class| after.exits(id, class) - before.exits(id, class);
    let scheduling = [ExitClass::Interrupt, ExitClass::Halt, ExitClass::Pause, ExitClass::Window];
    (scheduling.into_iter().map(of).sum(), ExitClass::ALL.into_iter().map(of).sum())
}

#[test]
fn a_lone_busy_vcpu_takes_no_exit_for_a_second_but_that_of_its_mark() {
    assert_eq!(exits(&alone("do=lone for_ms=1000")), (0, 1));
}

#[test]
fn an_idle_guest_takes_no_scheduling_exit_for_a_second() {
    let (scheduling, all) = exits(&alone("do=idle for_ms=1000"));
    assert_eq!(scheduling, 0);
    assert!(all <= 4, "the mark, and what it takes to sleep: {all}");
}

#[test]
fn who_gives_way_sees_that_somebody_waits_and_who_may_not_know_sees_nothing() {
    let outcome = run(&load("waiters.toml"));
    let number = |guest, key| {
        outcome
            .number(guest, "waiters", key)
            .unwrap_or_else(|| panic!("{guest} {key}: {}", outcome.transcript()))
    };
    assert!(number("yields", "seen") > 0 && number("keeps", "seen") > 0, "{}", outcome.transcript());
    // It gives way at once, so it is switched to far more often than once in the 2 ms that a slice has.
    let slices = number("yields", "run_ns") / 2_000_000;
    assert!(number("yields", "switches") > 4 * slices, "{}", outcome.transcript());
    assert_eq!((number("blind", "seen"), number("blind", "slice_ns")), (0, 0), "{}", outcome.transcript());
    assert_eq!((number("blind", "peers_ns"), number("blind", "lag_ns")), (0, 0));
    assert!(number("keeps", "peers_ns") > 0);
}

#[test]
fn time_lost_is_told_and_sums_up() {
    let outcome = run(&load("waiters.toml"));
    for guest in ["yields", "keeps", "blind"] {
        let number = |key| outcome.number(guest, "waiters", key).unwrap_or(0) as f64;
        let (run, steal, elapsed) = (number("run_ns"), number("steal_ns"), number("elapsed_ns"));
        // Since the guest was made, which is a little before the measured time.
        assert!(run + steal >= elapsed, "{guest}: {run} + {steal} of {elapsed}: {}", outcome.transcript());
        assert!(
            run + steal < 1.2 * elapsed,
            "{guest}: {run} + {steal} of {elapsed}: {}",
            outcome.transcript()
        );
        let published = number("published_steal_ns");
        assert!(published > 0.9 * steal && published <= steal, "{guest}: {published} of {steal}");
        let share = run / (run + steal);
        assert!((0.25..0.40).contains(&share), "{guest} got {share}: {}", outcome.transcript());
    }
}

#[test]
fn records_between_guests_of_every_kind_arrive_whole_and_in_order() {
    let scenario = load("channel.toml");
    let outcome = run(&scenario);
    for guest in &scenario.guests {
        let records = outcome.number(&guest.name, "channel", "records");
        assert_eq!(records, Some(200), "{}: {}", guest.name, outcome.transcript());
    }
}
