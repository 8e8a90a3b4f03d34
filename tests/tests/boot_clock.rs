//! The time-stamp counter's rate, as the hypervisor and its guests have it, against the host's: QEMU's translator hands the
//! host's counter through. The host is kept busy meanwhile, since a busy host takes the processor away in the middle of a
//! measurement.
//!
//! `COMITY_CLOCK_STARTS=100` starts so many machines, and `--nocapture` shows what they said.
#![cfg(feature = "boot")]
#![expect(clippy::panic, reason = "the helpers of a test fail the test")]

use hv_core::machine::arch::time::now_in_order;
use runner::machine::{Kind, Machine, Speaker};
use runner::scenario::Scenario;
use std::collections::HashMap;
use std::hint::{black_box, spin_loop};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Loops that compete with the machine for the host's processors.
const BUSY_LOOPS: usize = 3;
/// Machines that are started, unless the environment says otherwise.
const STARTS: usize = 5;
/// How far a rate may be off.
const MOST_PPM: f64 = 100.0;
/// What a minute may be off, in milliseconds.
const MOST_MS_A_MINUTE: f64 = 10.0;

/// Has loops run beside `work`.
fn beside_busy_loops<T>(work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..BUSY_LOOPS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        let done = work();
        over.store(true, Ordering::Relaxed);
        done
    })
}

/// A moment by both of the host's clocks.
#[derive(Clone, Copy)]
struct Moment {
    ticks: f64,
    at: Instant,
}

impl Moment {
    /// The tightest of many looks: time that was stolen between two readings does not count.
    #[expect(clippy::cast_precision_loss, reason = "53 bits of ticks are a month")]
    fn now() -> Self {
        let looks = (0..2000).map(|_| {
            let before = now_in_order().0;
            let at = black_box(Instant::now());
            let after = now_in_order().0;
            (after.wrapping_sub(before), before, at)
        });
        let (width, before, at) = looks.min_by_key(|look| look.0).unwrap_or_else(|| panic!("no looks"));
        Self { ticks: before as f64 + width as f64 / 2.0, at }
    }

    /// The counter's rate since then, in kHz.
    fn khz_since(self) -> f64 {
        let now = Self::now();
        (now.ticks - self.ticks) / now.at.duration_since(self.at).as_secs_f64() / 1000.0
    }
}

fn machine(text: &str) -> Machine {
    let scenario = Scenario::parse(Path::new("clock.toml"), text.to_owned());
    let scenario = scenario.unwrap_or_else(|refusal| panic!("{refusal}"));
    Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// The rate that a machine says it has, in kHz, and whether it trusts it.
#[expect(clippy::cast_precision_loss, reason = "kHz are far below 2^53")]
fn told_khz(text: &str) -> (f64, bool) {
    let outcome = machine(text).run().unwrap_or_else(|error| panic!("{error}"));
    let said = |part: &str| outcome.console.iter().find(|line| line.text.contains(part));
    let line = said(" tsc_khz=").unwrap_or_else(|| panic!("no rate: {}", outcome.transcript()));
    let value =
        line.text.split_once(" tsc_khz=").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
    let khz = value.unwrap_or_else(|| panic!("no number: {line}"));
    (khz as f64, said("tsc: not trusted").is_none())
}

#[test]
fn the_rate_is_the_hosts_within_100_ppm_beside_busy_loops() {
    if Kind::of_tests().is_ok_and(Kind::is_bochs) {
        return; // its counter has a rate of its own
    }
    let starts = std::env::var("COMITY_CLOCK_STARTS").ok().and_then(|starts| starts.parse().ok());
    let text =
        "[machine]\ntsc = \"trusted\"\n[[guest]]\nname = \"a\"\nkernel = \"hello\"\nmode = \"cooperative\"\n";
    let begin = Moment::now();
    let told: Vec<_> = beside_busy_loops(|| (0..starts.unwrap_or(STARTS)).map(|_| told_khz(text)).collect());
    let host_khz = begin.khz_since();
    let mut off: Vec<f64> = told.iter().map(|(khz, _)| (khz / host_khz - 1.0) * 1e6).collect();
    off.sort_by(f64::total_cmp);
    let trusted = told.iter().filter(|(_, trusted)| *trusted).count();
    println!("host {host_khz:.1} kHz; off by ppm: {off:.1?}; trusted {trusted} of {}", told.len());
    assert!(off.iter().all(|ppm| ppm.abs() <= MOST_PPM), "{off:?}");
    assert_eq!(trusted, told.len());
}

/// What each guest's clock said, in seconds, and how long after the machine's start we heard it.
fn heard(text: &str) -> HashMap<String, Vec<(f64, f64)>> {
    let begin = Instant::now();
    let mut running = machine(text).start().unwrap_or_else(|error| panic!("{error}"));
    let mut heard: HashMap<String, Vec<(f64, f64)>> = HashMap::new();
    while let Some(line) = running.next_line() {
        let Speaker::Guest(name) = line.speaker else { continue };
        let Some(ns) = line.text.strip_prefix("#clock ns=").and_then(|ns| ns.parse().ok()) else { continue };
        let said = Duration::from_nanos(ns).as_secs_f64();
        heard.entry(name).or_default().push((said, begin.elapsed().as_secs_f64()));
    }
    heard
}

/// What a clock is off in a minute, in milliseconds, by the line of the first and of the last quarter that came quickest.
fn ms_a_minute(heard: &[(f64, f64)]) -> f64 {
    let quarter = heard.len() / 4;
    let quickest = |lines: &[(f64, f64)]| {
        let soonest = lines.iter().min_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0)));
        *soonest.unwrap_or_else(|| panic!("too few lines: {heard:?}"))
    };
    let first = quickest(heard.get(..quarter).unwrap_or_default());
    let last = quickest(heard.get(heard.len() - quarter..).unwrap_or_default());
    ((last.0 - first.0) / (last.1 - first.1) - 1.0) * 60_000.0
}

#[test]
fn a_guests_minute_is_a_minute_beside_busy_loops() {
    if Kind::of_tests().is_ok_and(Kind::is_bochs) {
        return; // its time is not the host's
    }
    let guest = |mode: &str| {
        format!(
            "[[guest]]\nname = \"{mode}\"\nkernel = \"exercise\"\nmode = \"{mode}\"\ncommand_line = \"do=clock for_ms=20000\"\n"
        )
    };
    let text = ["cooperative", "full"].map(guest).concat() + "[machine]\ntsc = \"trusted\"\n";
    let heard = beside_busy_loops(|| heard(&text));
    for mode in ["cooperative", "full"] {
        let off_ms = ms_a_minute(heard.get(mode).unwrap_or_else(|| panic!("{mode} said nothing")));
        println!("{mode}: a minute is {off_ms:+.2} ms off");
        assert!(off_ms.abs() <= MOST_MS_A_MINUTE, "{mode}: {off_ms} ms a minute");
    }
}
