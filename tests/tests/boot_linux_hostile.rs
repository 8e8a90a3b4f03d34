//! Linux whose root means harm, beside a victim: a cooperative guest that wakes a thousand times a second and works 20 µs. Time is
//! counted in instructions, so every run is the same.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

mod linux;

use hv_format::error::KillReason;
use hv_format::record::Ending;
use linux::{COUNTED, did, guest, line, machine, number, run, served, victim};
use runner::machine::{Ended, Line, Outcome, Speaker};

const WAKES: u32 = 1000;
/// As beside hostile guests of our own.
const P99_NS: i64 = 200_000;
const MAX_NS: i64 = 2_500_000;
/// When one of them, or two, have almost booted.
const ONE_IS_NEARLY_UP_MS: u32 = 1000;
const TWO_ARE_NEARLY_UP_MS: u32 = 2200;

/// A guest that does one thing.
fn hostile(name: &str, mode: &str, words: &str) -> String {
    guest(name, mode, "", &format!("quiet {COUNTED} {words}"))
}

/// One guest of each mode that does it.
fn both(words: &str) -> String {
    hostile("full", "full", words) + &hostile("kvm", "kvm", words)
}

/// The victim was served in time while they did it: they came up after it began, and well before it ended.
fn unharmed(outcome: &Outcome, begin_ms: u32, guests: &[&str]) {
    for name in guests {
        let up_ms = number(line(outcome, name, "#linux up"), "uptime_ms");
        let window_ms = u64::from(begin_ms)..u64::from(begin_ms + WAKES * 3 / 4);
        assert!(window_ms.contains(&up_ms), "{name} was up after {up_ms} ms, not in {window_ms:?}");
    }
    let (p99, max) = served(outcome, WAKES);
    assert!(p99 <= P99_NS && max <= MAX_NS, "p99 {p99} ns, max {max} ns: {}", outcome.transcript());
}

#[test]
fn every_port_may_be_tried_in_every_width() {
    let guests = victim(WAKES, ONE_IS_NEARLY_UP_MS) + &hostile("full", "full", "comity.do=ports");
    let outcome = run("icount = true", &guests);
    assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
    did(&outcome, "full", "ports");
    assert!(number(line(&outcome, "full", "#linux ports answered="), "answered") < 200);
    assert!(number(line(&outcome, "full", "#linux ports written="), "written") > 190_000);
    unharmed(&outcome, ONE_IS_NEARLY_UP_MS, &["full"]);
}

#[test]
fn every_msr_may_be_read_and_written_back() {
    let guests = victim(WAKES, TWO_ARE_NEARLY_UP_MS) + &both("comity.do=msrs");
    let outcome = run("icount = true", &guests);
    assert_eq!(outcome.ended, Ended::Well, "{}", outcome.transcript());
    for name in ["full", "kvm"] {
        did(&outcome, name, "msrs");
        assert!(number(line(&outcome, name, "#linux msrs read="), "read") < 200);
    }
    unharmed(&outcome, TWO_ARE_NEARLY_UP_MS, &["full", "kvm"]);
}

#[test]
fn a_kernel_that_takes_a_triple_fault_is_killed_and_the_console_says_so() {
    let guests = victim(WAKES, TWO_ARE_NEARLY_UP_MS) + &both("comity.do=triple");
    let outcome = run("icount = true", &guests);
    assert_eq!(outcome.ended, Ended::Badly, "{}", outcome.transcript());
    for name in ["full", "kvm"] {
        let killed = format!("guest: killed name={name} vcpu=0 reason=TripleFault");
        assert!(outcome.hypervisor_lines().contains(&killed.as_str()), "{}", outcome.transcript());
        let endings = outcome.endings_of(name);
        let reasons: Vec<_> = endings.iter().map(|(ending, _)| **ending).collect();
        assert_eq!(reasons, [Ending::Killed(KillReason::TripleFault)]);
    }
    unharmed(&outcome, TWO_ARE_NEARLY_UP_MS, &["full", "kvm"]);
}

/// What is said until the victim has ended, which it does well and served in time; then the machine is stopped.
fn until_the_victim_ended(guests: &str) -> Vec<Line> {
    let mut running = machine("icount = true", &(victim(WAKES, TWO_ARE_NEARLY_UP_MS) + guests))
        .start()
        .unwrap_or_else(|error| panic!("{error}"));
    let mut lines = Vec::new();
    while let Some(line) = running.next_line() {
        let is_last = line.text.contains("name=victim ending=");
        lines.push(line);
        if is_last {
            break;
        }
    }
    let said = said_by(&lines, "victim", "#victim ");
    let late = |key| number(said, key);
    let (wakes, p99, max) = (late("wakes"), late("p99_ns"), late("max_ns"));
    println!("{said}");
    assert_eq!(wakes, u64::from(WAKES));
    assert!(p99 <= P99_NS.unsigned_abs() && max <= MAX_NS.unsigned_abs(), "{said}");
    let ending = lines.last().map(|line| line.text.as_str()).unwrap_or_default();
    assert!(ending.contains("ending=Off"), "{ending}");
    lines
}

/// The first line of a guest with these words in it.
fn said_by<'a>(lines: &'a [Line], guest: &str, words: &str) -> &'a str {
    let is_it = |line: &&Line| {
        matches!(&line.speaker, Speaker::Guest(name) if name == guest) && line.text.contains(words)
    };
    let found = lines.iter().find(is_it).map(|line| line.text.as_str());
    found.unwrap_or_else(|| panic!("{guest}: no {words:?} in {lines:#?}"))
}

#[test]
fn code_that_loops_with_interrupts_off_in_the_kernel_s_place_keeps_the_cpu_from_nobody() {
    let lines = until_the_victim_ended(&both("comity.do=deaf"));
    for name in ["full", "kvm"] {
        said_by(&lines, name, "#linux deaf");
        let end = format!("name={name} ending=");
        assert!(!lines.iter().any(|line| line.text.contains(&end)), "nobody ends it: {lines:#?}");
    }
}

#[test]
fn a_kernel_that_panics_hangs_or_restarts_as_it_was_told_to_and_says_why() {
    let guests =
        hostile("hangs", "full", "comity.do=panic panic=0") + &hostile("restarts", "kvm", "comity.do=panic");
    let lines = until_the_victim_ended(&guests);
    for name in ["hangs", "restarts"] {
        said_by(&lines, name, "Kernel panic - not syncing: sysrq triggered crash");
    }
    let ended = |words: &str| lines.iter().any(|line| line.text.contains(words));
    assert!(ended("name=restarts ending=Reboot") && !ended("name=hangs ending="), "{lines:#?}");
}
