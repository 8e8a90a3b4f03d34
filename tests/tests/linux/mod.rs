//! Scenarios with Debian's Linux in their guests, and what those say.

use hv_format::record::Ending;
use runner::images;
use runner::machine::{Machine, Outcome};
use runner::scenario::Scenario;
use std::path::Path;

/// What every kernel is told: its console, and where it lies. A panic restarts it.
const WORDS: &str = "console=ttyS0 nokaslr random.trust_cpu=off panic=-1";
/// Where instructions are counted, the TSC runs at 1 GHz; what full guests measure it by is emulated, and takes long.
pub const COUNTED: &str = "tsc_early_khz=1000000";

/// A guest of 128 MiB; `keys` are more keys of its table, one a line.
pub fn guest(name: &str, mode: &str, keys: &str, words: &str) -> String {
    guest_of("linux", name, mode, keys, words)
}

/// As [`guest`], with another form of the kernel.
pub fn guest_of(kernel: &str, name: &str, mode: &str, keys: &str, words: &str) -> String {
    format!(
        r#"
        [[guest]]
        name = "{name}"
        kernel = "{kernel}"
        initrd = "linux"
        mode = "{mode}"
        memory_mib = 128
        command_line = "{WORDS} {words}"
        {keys}
        "#
    )
}

/// A cooperative guest that wakes a thousand times a second from a moment on, and works 20 µs.
pub fn victim(wakes: u32, begin_ms: u32) -> String {
    format!(
        r#"
        [[guest]]
        name = "victim"
        kernel = "exercise"
        mode = "cooperative"
        command_line = "do=victim wakes={wakes} begin_ms={begin_ms}"
        "#
    )
}

/// A machine with these guests; `keys` are more keys of its table, one a line.
pub fn machine(keys: &str, guests: &str) -> Machine {
    for image in [images::linux_kernel(), images::linux_initrd()] {
        assert!(image.is_file(), "{}: no such image; `cargo xtask linux` makes it", image.display());
    }
    let text = format!(
        r#"
        [machine]
        tsc = "trusted"
        memory_mib = 1024
        timeout_s = 100
        {keys}
        {guests}"#
    );
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/linux.toml");
    let scenario = Scenario::parse(&file, text).unwrap_or_else(|refusal| panic!("{refusal}"));
    Machine::of_scenario(&scenario).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// Boots such a machine and waits for its end.
pub fn run(keys: &str, guests: &str) -> Outcome {
    machine(keys, guests).run().unwrap_or_else(|error| panic!("{error}"))
}

/// The first line of a guest that has these words in it.
pub fn line<'a>(outcome: &'a Outcome, guest: &str, words: &str) -> &'a str {
    let found = outcome.lines_of(guest).into_iter().find(|line| line.contains(words));
    found.unwrap_or_else(|| panic!("{guest}: no {words:?}: {}", outcome.transcript()))
}

/// The value of `key=` in a line.
pub fn number(line: &str, key: &str) -> u64 {
    let words = line.split_whitespace().filter_map(|word| word.split_once('='));
    let value = words.filter(|(name, _)| *name == key).find_map(|(_, value)| value.parse().ok());
    value.unwrap_or_else(|| panic!("no number {key} in {line:?}"))
}

/// A guest did what it was told to, and switched itself off.
pub fn did(outcome: &Outcome, guest: &str, what: &str) {
    assert_eq!(line(outcome, guest, "#ok "), format!("#ok linux do={what}"));
    let endings = outcome.endings_of(guest);
    assert!(matches!(endings[..], [(Ending::Off, _)]), "{guest}: {endings:?} {}", outcome.transcript());
}

/// The victim woke as often as it was to, and ended well; returns how late 99 in 100 wakes and the latest were done, in ns.
pub fn served(outcome: &Outcome, wakes: u32) -> (i64, i64) {
    let number = |key| outcome.number("victim", "victim", key).unwrap_or(i64::MAX);
    let (p99, max) = (number("p99_ns"), number("max_ns"));
    println!("victim: p50 {} p99 {p99} max {max} ns, {:.1?}", number("p50_ns"), outcome.wall);
    assert_eq!(number("wakes"), i64::from(wakes), "{}", outcome.transcript());
    let endings = outcome.endings_of("victim");
    assert!(matches!(endings[..], [(Ending::Off, _)]), "{endings:?} {}", outcome.transcript());
    (p99, max)
}
