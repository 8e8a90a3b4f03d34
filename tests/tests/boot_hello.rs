//! The scenarios of the repository, as a user runs them.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use hv_format::id::GuestId;
use hv_format::record::{Ending, ExitClass, GuestCounters, Record};
use runner::machine::{Ended, Kind, Machine, Outcome};
use runner::scenario::Scenario;
use std::path::Path;

fn run(name: &str) -> (Scenario, Outcome) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name);
    boot(Scenario::load(&file).unwrap_or_else(|refusal| panic!("{refusal}")))
}

fn boot(scenario: Scenario) -> (Scenario, Outcome) {
    let machine = Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"));
    let outcome = machine.run().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
    (scenario, outcome)
}

/// How a guest ended, and its counters.
fn ending(outcome: &Outcome, wanted: usize) -> (&Ending, &GuestCounters) {
    let found = outcome.records().iter().find_map(|record| match record {
        Record::Ended { guest: GuestId(guest), ending, counters, .. } if usize::from(*guest) == wanted => {
            Some((ending, counters))
        }
        Record::Ended { .. }
        | Record::Boot { .. }
        | Record::Clock { .. }
        | Record::Mark { .. }
        | Record::Lost { .. } => None,
    });
    found.unwrap_or_else(|| panic!("guest {wanted} left no record: {}", outcome.transcript()))
}

fn exits(counters: &GuestCounters, class: ExitClass) -> u64 {
    counters.exits.get(class as usize).copied().unwrap_or_default()
}

#[test]
fn one_image_runs_full_and_cooperative_side_by_side() {
    let (_, outcome) = run("hello.toml");
    for (guest, mode) in [("full", "mode=full"), ("coop", "mode=cooperative")] {
        let lines = outcome.lines_of(guest);
        assert!(lines.iter().any(|line| line.contains(mode)), "{}", outcome.transcript());
        assert!(lines.iter().any(|line| line.contains("powering off")), "{}", outcome.transcript());
    }
}

/// By default the TSC has to be announced as invariant, which QEMU's translator does not do.
#[test]
fn a_cooperative_guest_without_timers_says_so_and_sleeps_all_the_same() {
    let text = "[[guest]]\nname = \"coop\"\nkernel = \"hello\"\nmode = \"cooperative\"\n";
    let scenario = Scenario::parse(Path::new("default.toml"), text.into());
    let (_, outcome) = boot(scenario.unwrap_or_else(|refusal| panic!("{refusal}")));
    let lines = outcome.lines_of("coop");
    let has = |words: &str| lines.iter().any(|line| line.contains(words));
    assert!(has("sleeps=3"), "{}", outcome.transcript());
    let invariant = Kind::of_tests().is_ok_and(Kind::is_bochs);
    assert_eq!(has("shim: no timers"), !invariant, "{}", outcome.transcript());
}

#[test]
fn telemetry_tells_what_each_guest_caused() {
    let (_, outcome) = run("hello.toml");
    assert_eq!(outcome.telemetry.broken_frames, 0, "{}", outcome.transcript());
    let names = outcome.records().iter().find_map(|record| match record {
        Record::Boot { guests, .. } => Some(guests.clone()),
        Record::Ended { .. } | Record::Mark { .. } | Record::Clock { .. } | Record::Lost { .. } => None,
    });
    assert_eq!(names, Some(vec!["full".to_owned(), "coop".to_owned()]), "{:?}", outcome.records());
    let ((full_ending, full), (coop_ending, coop)) = (ending(&outcome, 0), ending(&outcome, 1));
    assert_eq!((full_ending, coop_ending), (&Ending::Off, &Ending::Off));
    assert_eq!(exits(full, ExitClass::Call), 0, "nothing is announced to a full guest: {full:?}");
    assert!(exits(coop, ExitClass::Call) > 0, "{coop:?}");
    assert!(exits(full, ExitClass::Port) > exits(coop, ExitClass::Port), "{full:?} {coop:?}");
    assert!(full.guest_ticks > 0 && coop.guest_ticks > 0, "{full:?} {coop:?}");
}

#[test]
fn sixteen_guests_share_one_processor_and_all_end_well() {
    let (scenario, outcome) = run("crowd.toml");
    assert_eq!(scenario.guests.len(), 16);
    for guest in &scenario.guests {
        let lines = outcome.lines_of(&guest.name);
        assert!(
            lines.iter().any(|line| line.contains("powering off")),
            "{}: {}",
            guest.name,
            outcome.transcript()
        );
    }
}
