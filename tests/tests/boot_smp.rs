//! Several processors: guests of both kinds on them, overcommitted; what is said when one of them panics.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use hv_format::record::Ending;
use runner::machine::{Ended, Machine, Outcome};
use runner::scenario::Scenario;
use std::path::Path;

fn run(name: &str, change: impl FnOnce(&mut Scenario)) -> Outcome {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name);
    let mut scenario = Scenario::load(&file).unwrap_or_else(|refusal| panic!("{refusal}"));
    change(&mut scenario);
    let machine = Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"));
    machine.run().unwrap_or_else(|error| panic!("{error}"))
}

/// Guests that call, start and stop one another: no wake is lost, whatever ends and begins beside them.
fn churned(cpus: u8) {
    let outcome = run("churn.toml", |scenario| scenario.machine.cpus = cpus);
    let transcript = outcome.transcript();
    assert_eq!(outcome.ended, Ended::Badly, "one crashes at last: {transcript}");
    assert!(transcript.contains(&format!(" cpus={cpus} ")), "{transcript}");
    for (guest, vcpus, rounds) in
        [("full", 4, 200), ("coop", 4, 200), ("reboots", 3, 100), ("crashes", 4, 100), ("pinned", 2, 200)]
    {
        assert_eq!(outcome.number(guest, "churn", "sum"), Some(vcpus * rounds), "{guest}: {transcript}");
    }
    let ends = |guest| outcome.endings_of(guest).into_iter().map(|(ending, _)| *ending).collect::<Vec<_>>();
    for guest in ["full", "coop", "pinned"] {
        assert_eq!(ends(guest), [Ending::Off], "{guest}: {transcript}");
    }
    assert_eq!(ends("reboots"), [Ending::Reboot, Ending::Reboot, Ending::Off], "{transcript}");
    assert_eq!(ends("crashes"), [Ending::Crash, Ending::Crash, Ending::Crash], "{transcript}");
    let (_, pinned) = outcome.endings_of("pinned")[0];
    assert_eq!(pinned.migrations, 0, "{transcript}");
}

#[test]
fn on_two_processors_no_wake_is_lost_beside_guests_that_crash_and_begin_again() {
    churned(2);
}

#[test]
fn on_four_processors_no_wake_is_lost_beside_guests_that_crash_and_begin_again() {
    churned(4);
}

/// The translator loses bits of the first processor's state to FXRSTOR on the others (`machine/arch/translator.rs`): without
/// the way round, one run in eight ended in a triple fault.
#[test]
fn full_guests_on_all_processors_do_not_lose_their_page_tables() {
    let outcome = run("churn_full.toml", |_| {});
    assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
    for guest in ["full-0", "full-1", "full-2"] {
        assert_eq!(outcome.number(guest, "churn", "sum"), Some(4 * 1500), "{}", outcome.transcript());
    }
}

/// The translator loses interrupts to VMRUN: without the way round, one life in some 140 stood still.
#[test]
fn a_guest_that_spins_is_interrupted_in_each_of_its_lives() {
    let outcome = run("churn_lives.toml", |_| {});
    assert_eq!(outcome.ended, Ended::Badly, "it crashes at last: {}", outcome.transcript());
    let lives = outcome.endings_of("full");
    assert_eq!(lives.len(), 31, "{}", outcome.transcript());
}

#[test]
fn locks_and_calls_work_across_processors() {
    for cpus in [2, 4] {
        let outcome = run("mixed.toml", |scenario| scenario.machine.cpus = cpus);
        assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
        for (guest, vcpus) in [("full-1", 1), ("coop-1", 1), ("full-4", 4), ("coop-4", 4)] {
            let number = |key| outcome.number(guest, "smp", key);
            assert_eq!(number("sum"), Some(vcpus * 500), "{guest}: {}", outcome.transcript());
            assert_eq!(number("answers"), Some(vcpus - 1), "{guest}: {}", outcome.transcript());
        }
    }
}

/// The last processor fails on purpose; everybody is named, with what they were doing.
fn last_words(cpus: u8, selftest: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/weights_smp.toml");
    let mut scenario = Scenario::load(&file).unwrap_or_else(|refusal| panic!("{refusal}"));
    scenario.machine.cpus = cpus;
    let machine = Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"));
    let outcome = machine.command_line(selftest).run().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.ended, Ended::Panicked, "{}", outcome.transcript());
    outcome.transcript()
}

#[test]
fn a_panic_stops_all_processors_and_names_each_ones_last_exits() {
    for cpus in [1, 2, 4] {
        let said = last_words(cpus, "selftest=panic");
        assert!(said.contains("comity: panic: selftest"), "{said}");
        let last = cpus - 1;
        assert!(said.contains(&format!("comity: cpu{last} panicked")), "{said}");
        for other in 0..last {
            assert!(said.contains(&format!("comity: cpu{other} stopped rip=0x")), "{said}");
        }
        // Of three busy guests some vCPU was on the first processor, unless that is the one that failed.
        assert!(cpus == 1 || said.contains("last exits latest first ["), "{said}");
    }
}

#[test]
fn a_stack_that_overflows_is_a_double_fault_and_no_silent_damage() {
    for cpus in [1, 2] {
        let said = last_words(cpus, "selftest=stack");
        assert!(said.contains("comity: panic: exception 8"), "{said}");
    }
}

#[test]
fn a_machine_check_ends_in_last_words_with_what_the_banks_hold() {
    for cpus in [1, 2] {
        let said = last_words(cpus, "selftest=machine-check");
        let line = said.lines().find(|line| line.contains("comity: panic: machine check at 0x"));
        assert!(
            line.is_some_and(|line| line.contains(" mcg_status=0x") || line.contains(" no banks")),
            "{said}"
        );
        assert!(said.contains(&format!("comity: cpu{} panicked", cpus - 1)), "{said}");
    }
}

#[test]
fn a_vcpu_pinned_to_a_processor_that_is_not_there_is_refused() {
    let outcome = run("churn.toml", |scenario| scenario.machine.cpus = 1);
    assert_eq!(outcome.ended, Ended::Refused, "{}", outcome.transcript());
    let line = "refused: guest pinned: pin: vCPU 0 is pinned to a processor that is not there";
    assert!(outcome.transcript().contains(line), "{}", outcome.transcript());
}
