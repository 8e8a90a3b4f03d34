//! Typing: it reaches the guest that was chosen, and nobody else.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use runner::machine::{Machine, Running, Speaker};
use runner::scenario::Scenario;
use std::path::Path;

/// Two guests that repeat what is typed; `chosen` gets it.
fn start(mode: &str, chosen: &str, input: &str) -> Running {
    let guest = |name: &str| {
        format!(
            "[[guest]]\nname = \"{name}\"\nkernel = \"hello\"\nmode = \"{mode}\"\ncommand_line = \"echo\"\n"
        )
    };
    let (first, second) = (guest("first"), guest("second"));
    let text = format!(
        "{first}{second}[machine]\ntsc = \"trusted\"\ntimeout_s = 30\n[input]\nguest = \"{chosen}\"\n{input}"
    );
    let scenario =
        Scenario::parse(Path::new("typed.toml"), text).unwrap_or_else(|refusal| panic!("{refusal}"));
    let machine = Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"));
    machine.start().unwrap_or_else(|error| panic!("{error}"))
}

/// Waits for both guests, types, and checks that `chosen` alone repeats it and ends.
fn typed_reaches(mode: &str, chosen: &str) {
    let mut running = start(mode, chosen, "");
    for _ in 0..2 {
        let ready = running.wait_for(|line| line.text.contains("command line"));
        assert!(ready.is_some(), "{}", running.finish().transcript());
    }
    running.type_text("abc");
    running.type_text("q");
    let mut repeated = String::new();
    while let Some(line) = running.next_line() {
        match &line.speaker {
            Speaker::Guest(name) if line.text.contains("typed") => {
                assert_eq!(name, chosen, "{mode}: {line}");
                repeated.extend(line.text.split('"').nth(1));
            }
            Speaker::Guest(name) if name == chosen && line.text.contains("powering off") => break,
            Speaker::Guest(_) | Speaker::Hypervisor | Speaker::Unnamed => {}
        }
    }
    assert_eq!(repeated, "abcq", "{mode} {chosen}");
}

#[test]
fn what_is_typed_reaches_the_chosen_guest_only() {
    for mode in ["full", "cooperative"] {
        for chosen in ["first", "second"] {
            typed_reaches(mode, chosen);
        }
    }
}

#[test]
fn a_guest_with_the_terminal_writes_as_it_likes_and_the_others_are_named() {
    for mode in ["full", "cooperative"] {
        let mut running = start(mode, "second", "terminal = true\n");
        let bare =
            running.wait_for(|line| line.text.contains("command line") && line.speaker == Speaker::Unnamed);
        assert!(bare.is_some(), "{mode}: {}", running.finish().transcript());
        running.type_text("q");
        let end = running.wait_for(|line| line.text.contains("powering off"));
        assert_eq!(end.map(|line| line.speaker), Some(Speaker::Unnamed), "{mode}");
        let others =
            running.heard().iter().filter(|line| line.speaker == Speaker::Guest("first".into())).count();
        assert!(others > 0, "{mode}");
    }
}
