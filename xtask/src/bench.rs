//! `cargo xtask bench`: the same guest image bare, full and cooperative in QEMU's instruction clock, as one table.

mod baseline;
mod compare;
mod figure;
mod files;
mod job;
mod linux;
mod page;
mod plan;
mod plot;
mod read;
mod report;
mod says;
mod smp;
mod table;
mod target;
mod together;
mod window;

use crate::failure::{Attempt, Failure, Outcome};
use crate::{build, setup, workspace};
use figure::Figure;
use job::Length;
use report::Report;
use std::path::{Path, PathBuf};
use std::time::Instant;
use table::Parts;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Shorter windows: figures of workloads come from fewer requests.
    #[arg(long, conflicts_with = "all")]
    quick: bool,
    /// Rows of several processors and of Linux, too, and exits by reason in the table.
    #[arg(long)]
    all: bool,
    /// Only scenarios whose name begins with one of these.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Prints the figures that moved by more than 1 % since an earlier report.json.
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// Runs the micro figures only, and fails when one grew by 10 % over tests/bench/baseline.json.
    #[arg(long, conflicts_with_all = ["all", "quick", "only"])]
    check: bool,
    /// Makes the micro figures of this run the ones that --check compares with.
    #[arg(long, requires = "check", conflicts_with_all = ["all", "quick", "only"])]
    bless: bool,
    /// Uses the images of the last build.
    #[arg(long)]
    no_build: bool,
}

impl Arguments {
    /// The command line of `--check`, for other commands.
    pub const fn check() -> Self {
        Self {
            quick: false,
            all: false,
            only: Vec::new(),
            compare: None,
            check: true,
            bless: false,
            no_build: false,
        }
    }

    /// Linux is measured where all is, or where it is named.
    fn wants_linux(&self) -> bool {
        (self.all || !self.only.is_empty()) && self.wants("linux")
    }

    fn wants(&self, scenario: &str) -> bool {
        if self.check {
            return scenario.starts_with("micro");
        }
        self.only.is_empty() || self.only.iter().any(|name| scenario.starts_with(name.as_str()))
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    let started = Instant::now();
    // Read first: a missing file should not be found out after minutes.
    let old = arguments.compare.as_deref().map(Report::load).transpose()?;
    setup::emulator()?;
    if arguments.all {
        setup::bochs()?;
    }
    if !arguments.no_build {
        build::all()?;
    }
    let length = if arguments.quick { Length::Quick } else { Length::Whole };
    let jobs = plan::jobs(length, |name| arguments.wants(name))?;
    if jobs.is_empty() && !arguments.all && !arguments.wants_linux() {
        return Err(Failure::new(format!("--only: no scenario begins with {}", arguments.only.join(", "))));
    }
    let (mut figures, mut troubles) = together::run(&jobs);
    if arguments.all {
        let (more, amiss) = smp::run(length, |name| arguments.wants(name));
        figures.extend(more);
        troubles.extend(amiss);
    }
    if arguments.wants_linux() {
        let (more, amiss) = linux::run();
        figures.extend(more);
        troubles.extend(amiss);
    }
    let figures = figure::sorted(figures);
    let parts = if arguments.all { Parts::Shown } else { Parts::Hidden };
    print!("{}", table::render(&figures, parts));
    for trouble in &troubles {
        eprintln!("error: {trouble}");
    }
    let report = Report::new(length, figures);
    let folder = workspace::root().join("target/bench");
    for file in files::write(&report, &folder)? {
        println!("wrote {}", file.strip_prefix(workspace::root()).unwrap_or(&file).display());
    }
    if !arguments.check {
        print!("\n{}", target::render(&report.figures));
    }
    if let Some(old) = &old {
        print!("\n{}", compare::render(&old.figures, &report.figures));
    }
    println!("\n{} machines in {:.0} s", jobs.len(), started.elapsed().as_secs_f64());
    if !troubles.is_empty() {
        return Err(Failure::new(format!("{} machines failed, see above", troubles.len())));
    }
    if arguments.check { check(arguments, &report) } else { Ok(()) }
}

/// Compares with the committed figures, or commits to these.
fn check(arguments: &Arguments, report: &Report) -> Outcome<()> {
    let file = workspace::root().join("tests/bench/baseline.json");
    if arguments.bless {
        return std::fs::write(&file, baseline::of(&report.figures)).attempt(file.display());
    }
    judge(&file, &report.figures)
}

fn judge(file: &Path, figures: &[Figure]) -> Outcome<()> {
    let text = std::fs::read_to_string(file).attempt(file.display())?;
    let committed = baseline::read(&text).attempt(file.display())?;
    let verdict = baseline::judge(&committed, figures);
    println!("{} figures checked against {}", committed.len(), file.display());
    for line in &verdict {
        eprintln!("error: {line}");
    }
    if verdict.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("{} figures grew by 10 % or are gone", verdict.len())))
    }
}
