//! Boot tests on other machines than QEMU's by PVH: the same tests, told by the environment where to boot.

use super::own;
use super::stage::Stage;
use super::tally::Tally;
use crate::{setup, workspace};
use ::tests::machine::{EXCLUDED, Kind};

/// What runs where, so that all of it takes a few minutes: test files of `tests/tests`.
const CORE: [(Kind, &[&str]); 4] = [
    (Kind::QemuCd, &["boot_hello"]),
    (Kind::QemuUefi, &["boot_hello"]),
    (Kind::BochsIntel, &["boot_hello", "boot_cooperation", "boot_life", "boot_mixed"]),
    (Kind::BochsAmd, &["boot_hello", "boot_cooperation", "boot_life", "boot_mixed"]),
];

/// Runs them, and says which tests are excluded and why.
pub fn run(verbose: bool) -> Tally {
    if let Err(failure) = setup::cd().and_then(|()| setup::bochs()) {
        return own(Err(failure));
    }
    let mut sum = Tally::default();
    for (kind, files) in CORE {
        let name = Kind::ALL.into_iter().find(|(_, known)| *known == kind).map_or("?", |(name, _)| name);
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
        sum = sum + tally;
    }
    sum
}
