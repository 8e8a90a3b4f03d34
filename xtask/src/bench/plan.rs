//! What is booted, in the order of the table.

use super::figure::Mode;
use super::job::{Job, Length};
use super::read::{self, Reader};
use crate::failure::Outcome;
use crate::workspace;

/// A scenario of `tests/scenarios/bench` and what is read from it.
struct Plan {
    /// Its file.
    file: &'static str,
    /// What its figures' names begin with.
    prefix: &'static str,
    modes: &'static [Mode],
    read: Reader,
}

// The first mode of a plan gives the order of its figures: a cooperative guest has them all.
const ALL: &[Mode] = &[Mode::Cooperative, Mode::Full, Mode::Bare];
const HYPERVISED: &[Mode] = &[Mode::Cooperative, Mode::Full];
const COOPERATIVE: &[Mode] = &[Mode::Cooperative];

const fn micro(file: &'static str, modes: &'static [Mode]) -> Plan {
    Plan { file, prefix: "micro", modes, read: read::micro::read }
}

const fn workload(name: &'static str, modes: &'static [Mode], read: Reader) -> Plan {
    Plan { file: name, prefix: name, modes, read }
}

const PLANS: &[Plan] = &[
    micro("micro", ALL),
    micro("micro_ring", HYPERVISED),
    micro("micro_16", COOPERATIVE),
    micro("micro_256", COOPERATIVE),
    workload("server_5", ALL, read::server::read),
    workload("server_15", ALL, read::server::read),
    workload("server_22", ALL, read::server::read),
    workload("server_80", ALL, read::server::read),
    workload("server_22_urgent", COOPERATIVE, read::server::read),
    workload("batch", HYPERVISED, read::batch::read),
    workload("locks_2", HYPERVISED, read::locks::read),
    workload("locks_20", HYPERVISED, read::locks::read),
    workload("locks_200", HYPERVISED, read::locks::read),
    workload("idle", HYPERVISED, read::idle::read),
    workload("lone_busy", HYPERVISED, read::batch::read),
    workload("tick", ALL, read::tick::read),
    workload("pipe", HYPERVISED, read::pipe::read),
];

/// Returns the machines of the scenarios that are wanted.
///
/// # Errors
///
/// The first scenario that cannot be made a machine.
pub fn jobs(length: Length, wanted: impl Fn(&str) -> bool) -> Outcome<Vec<Job>> {
    let folder = workspace::root().join("tests/scenarios/bench");
    let mut jobs = Vec::new();
    for plan in PLANS.iter().filter(|plan| wanted(plan.file)) {
        let file = folder.join(plan.file).with_extension("toml");
        for mode in plan.modes {
            jobs.push(Job::new(&file, plan.prefix, *mode, length, plan.read)?);
        }
    }
    Ok(jobs)
}
