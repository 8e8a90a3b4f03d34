//! Events where they meet: interrupts, NMIs, single steps, the task priority.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use runner::machine::{Ended, Machine, Outcome};
use runner::scenario::Scenario;
use std::path::Path;

/// Boots a deed of `misbehave` in a full and in a cooperative guest.
fn run(deed: &str, icount: bool) -> Outcome {
    let guest = |mode: &str| {
        format!(
            "[[guest]]\nname = \"{mode}\"\nkernel = \"misbehave\"\nmode = \"{mode}\"\nrestarts = 2\ncommand_line = \"do={deed}\"\n"
        )
    };
    let machine = format!("[machine]\ntsc = \"trusted\"\nicount = {icount}\ntimeout_s = 60\n");
    let text = machine + &guest("full") + &guest("cooperative");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/events.toml");
    let scenario = Scenario::parse(&file, text).unwrap_or_else(|refusal| panic!("{refusal}"));
    let machine = Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"));
    machine.run().unwrap_or_else(|error| panic!("{error}"))
}

/// Both guests find the answers right and end well.
fn survived(deed: &str, icount: bool) {
    let outcome = run(deed, icount);
    assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
    for guest in ["full", "cooperative"] {
        let lines = outcome.lines_of(guest);
        assert!(lines.contains(&"#ok misbehave"), "{guest}: {}", outcome.transcript());
        assert!(!lines.iter().any(|line| line.contains("#bad")), "{guest}: {}", outcome.transcript());
    }
}

#[test]
fn a_guest_may_change_its_task_priority_while_an_interrupt_waits() {
    for icount in [true, false] {
        survived("priority", icount);
    }
}

#[test]
fn a_task_register_that_is_nothing_is_refused_and_the_one_before_stays() {
    for icount in [true, false] {
        survived("task", icount);
    }
}

#[test]
fn an_nmi_inside_an_nmi_waits_for_the_return_of_the_first() {
    for icount in [true, false] {
        survived("nmi", icount);
    }
}

#[test]
fn each_instruction_that_is_emulated_ends_in_the_debug_exception_of_a_single_step() {
    survived("single_steps", true);
}

#[test]
fn a_breakpoint_that_a_guest_leaves_behind_harms_nobody() {
    for icount in [true, false] {
        let outcome = run("breakpoint", icount);
        assert_eq!(outcome.ended, Ended::Badly, "{}", outcome.transcript());
        for guest in ["full", "cooperative"] {
            let lives = outcome.lines_of(guest).into_iter().filter(|line| *line == "breakpoint: on").count();
            assert_eq!(lives, 3, "{guest}: {}", outcome.transcript());
        }
    }
}
