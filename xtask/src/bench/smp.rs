//! Rows of several processors, one machine at a time, since each of its processors is a thread of the host's: throughput at 1,
//! 2 and 4 processors, wakes across processors, shares, and what 1,024 idle vCPUs cost.

mod crossing;
mod scale;
mod shares;

use super::figure::{Figure, Mode};
use super::job::{Clock, Job, Length};
use super::read::{Evidence, micro};
use super::window::{exits, real};
use crate::failure::{Failure, Outcome};
use crate::workspace;
use std::time::Instant;

/// Measures some rows.
type Part = fn(&mut All);

/// Machines of which a figure is the median.
const RUNS: usize = 5;

/// Measures all; what went wrong comes back beside the figures.
pub fn run(length: Length, wanted: impl Fn(&str) -> bool) -> (Vec<Figure>, Vec<String>) {
    let mut all = All { length, figures: Vec::new(), troubles: Vec::new() };
    let parts: [(&str, Part); 6] = [
        ("micro_vmx", vmx),
        ("smp", scale::measure),
        ("spinners", shares::spinners),
        ("entitlement", shares::entitlement),
        ("crossing", crossing::measure),
        ("idle_1024", idle),
    ];
    for (name, measure) in parts.into_iter().filter(|(name, _)| wanted(name)) {
        let started = Instant::now();
        measure(&mut all);
        eprintln!("{name}: {:.0} s", started.elapsed().as_secs_f64());
    }
    (all.figures, all.troubles)
}

/// What was measured so far.
struct All {
    length: Length,
    figures: Vec<Figure>,
    troubles: Vec<String>,
}

impl All {
    /// A machine of a scenario in `tests/scenarios/bench`.
    fn job(&self, file: &str, mode: Mode, clock: Clock, cpus: Option<u8>) -> Outcome<Job> {
        let path = workspace::root().join("tests/scenarios/bench").join(file).with_extension("toml");
        Job::on(&path, "", mode, self.length, |_| Ok(Vec::new()), clock, cpus)
    }

    /// Boots a machine once and looks at what it left.
    fn once<T>(
        &self,
        (file, mode, clock, cpus): (&str, Mode, Clock, Option<u8>),
        look: impl FnOnce(&Evidence<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        self.job(file, mode, clock, cpus).map_err(|failure: Failure| failure.message)?.look(look)
    }

    /// Keeps a figure of some samples: their median.
    fn keep(&mut self, name: &str, mode: Mode, unit: &str, samples: Result<Vec<f64>, String>) {
        match samples {
            Ok(samples) => self.figures.extend(Figure::median(name.into(), mode, unit, samples)),
            Err(trouble) => self.troubles.push(trouble),
        }
    }
}

/// The micro figures on Intel's VMX, in Bochs.
fn vmx(all: &mut All) {
    let path = workspace::root().join("tests/scenarios/bench/micro.toml");
    let job = Job::new(&path, "micro", Mode::CooperativeVmx, all.length, micro::read);
    match job.map_err(|failure| failure.message).and_then(|job| job.run()) {
        Ok(figures) => all.figures.extend(figures),
        Err(trouble) => all.troubles.push(trouble),
    }
}

/// Exits of guests that have nothing to do: as the row `idle`, with 1,024 vCPUs on four processors.
fn idle(all: &mut All) {
    for mode in [Mode::Full, Mode::Cooperative] {
        let exits_per_second = all.once(("idle_1024", mode, Clock::Counted, None), |evidence| {
            let window = evidence.window()?.ok_or("not measured bare")?;
            let idle: u64 = window.guests.iter().skip(1).map(exits).sum();
            Ok(vec![real(idle) / window.seconds()])
        });
        all.keep("idle_1024.exits_per_second", mode, "exits/s", exits_per_second);
    }
}
