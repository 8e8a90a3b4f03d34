//! Boot tests on other machines than QEMU's by PVH: the same tests, told by the environment where to boot.

use super::own;
use super::stage::Stage;
use super::tally::Tally;
use crate::{setup, workspace};
use runner::machine::{EXCLUDED, Kind};

/// What runs where, so that all of it takes a few minutes: test files of `tests/tests`.
const CORE: [(Kind, &[&str]); 4] = [
    (Kind::QemuCd, &["boot_hello"]),
    (Kind::QemuUefi, &["boot_hello"]),
    (Kind::BochsIntel, &["boot_hello", "boot_cooperation", "boot_life", "boot_mixed"]),
    (Kind::BochsAmd, &["boot_hello", "boot_cooperation", "boot_life", "boot_mixed"]),
];

/// All that boot our own guests by way of [`Kind::of_tests`]: Linux, and what is about QEMU or the runner, have machines of their own.
/// Not for QEMU's CDs, where the moments that guests agree on have passed when GRUB is done.
const EVERYWHERE: [&str; 11] = [
    "boot_hello",
    "boot_refusals",
    "boot_input",
    "boot_life",
    "boot_mixed",
    "boot_memory",
    "boot_cooperation",
    "boot_hostile",
    "boot_events",
    "boot_smp",
    "boot_smp_shares",
];

/// Runs the core of them on each machine.
pub fn run(verbose: bool) -> Tally {
    if let Err(failure) = setup::cd().and_then(|()| setup::bochs()) {
        return own(Err(failure));
    }
    CORE.into_iter().fold(Tally::default(), |sum, (kind, files)| sum + boot(kind, files, verbose))
}

/// Runs all on one machine that can run there: on Bochs, in about an hour.
pub fn run_all(kind: Kind, verbose: bool) -> Tally {
    if let Err(failure) = setup::cd().and_then(|()| setup::bochs()) {
        return own(Err(failure));
    }
    let core = CORE.into_iter().find(|(of, _)| *of == kind);
    match core {
        Some((_, files)) if !kind.is_bochs() => boot(kind, files, verbose),
        Some(_) | None => boot(kind, &EVERYWHERE, verbose),
    }
}

/// Runs test files on a machine, and says which tests are excluded there and why.
pub fn boot(kind: Kind, files: &[&str], verbose: bool) -> Tally {
    let name = kind.name();
    let excluded = || EXCLUDED.into_iter().filter(|(on, _, _)| *on == kind);
    let mut arguments = vec!["test", "-p", "tests", "--features", "boot", "--no-fail-fast"];
    arguments.extend(files.iter().flat_map(|file| ["--test", file]));
    arguments.push("--");
    for (_, test, bug) in excluded() {
        println!("excluded on {name}: {test}: {bug}");
        arguments.extend(["--skip", test]);
    }
    let stage =
        Stage::cargo(&arguments).env("COMITY_IMAGES", workspace::images()).env("COMITY_MACHINE", name);
    let tally = stage.tests(verbose);
    println!("{name}: {} passed, {} failed, {} excluded", tally.passed, tally.failed, excluded().count());
    tally
}
