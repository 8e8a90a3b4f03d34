//! `cargo xtask test`: everything that can fail, in stages, each with its time, and one sum at the end.

mod machines;
mod package;
mod stage;
mod stress;
mod tally;

use crate::failure::{Failure, Outcome};
use crate::{bench, build, lint, linux, workspace};
use runner::machine::Kind;
use stage::Stage;
use std::time::{Duration, Instant};
use tally::Tally;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only these stages.
    #[arg(long, value_enum, value_name = "STAGE", value_delimiter = ',')]
    only: Vec<Name>,
    /// Not these stages.
    #[arg(long, value_enum, value_name = "STAGE", value_delimiter = ',')]
    skip: Vec<Name>,
    /// Boots N random machines instead, each from a seed that is printed.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "100", conflicts_with_all = ["only", "skip"])]
    stress: Option<u64>,
    /// The first of the seeds.
    #[arg(long, value_name = "SEED", default_value_t = 1, requires = "stress")]
    seed: u64,
    /// Builds, and runs every boot test that can run on this machine instead.
    #[arg(long, value_parser = Kind::named, value_name = "MACHINE", conflicts_with_all = ["only", "skip", "stress"])]
    machine: Option<Kind>,
    /// Shows what every stage prints, not only the failed ones.
    #[arg(long, short)]
    verbose: bool,
}

/// A stage's name, in the order in which they run: quick ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// rustfmt.
    Format,
    /// The rules of the house that the compiler cannot see.
    Lint,
    /// clippy, and every warning is an error.
    Clippy,
    /// rustdoc, and every warning is an error.
    Doc,
    /// Licences, origins and duplicates of what is linked, by cargo-deny.
    Dependencies,
    /// The crates that a guest links, as they would be published.
    Package,
    /// Unit, property and documentation tests on the host.
    Host,
    /// Model checks of every protocol with an ordering.
    Loom,
    /// Everything that boots.
    Build,
    /// Machines in QEMU.
    Boot,
    /// The core of them on other machines: from a CD by BIOS and by UEFI, and in Bochs with VMX and with SVM.
    Machines,
    /// The micro figures against the committed ones.
    Figures,
}

const ALL: [Name; 12] = [
    Name::Format,
    Name::Lint,
    Name::Clippy,
    Name::Doc,
    Name::Dependencies,
    Name::Package,
    Name::Host,
    Name::Loom,
    Name::Build,
    Name::Boot,
    Name::Machines,
    Name::Figures,
];

impl Name {
    fn text(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Lint => "lint",
            Self::Clippy => "clippy",
            Self::Doc => "doc",
            Self::Dependencies => "dependencies",
            Self::Package => "package",
            Self::Host => "host tests",
            Self::Loom => "loom",
            Self::Build => "build",
            Self::Boot => "boot tests",
            Self::Machines => "machines",
            Self::Figures => "figures",
        }
    }

    fn run(self, verbose: bool) -> Tally {
        match self {
            Self::Format => Stage::cargo(&["fmt", "--all", "--check"]).check(verbose),
            Self::Lint => own(lint::run()),
            Self::Clippy => {
                let all = [
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--features",
                    "tests/boot",
                    "--",
                    "-Dwarnings",
                ];
                Stage::cargo(&all).check(verbose)
            }
            Self::Doc => Stage::cargo(&["doc", "--workspace", "--no-deps"])
                .env("RUSTDOCFLAGS", "-Dwarnings")
                .check(verbose),
            Self::Dependencies => dependencies(verbose),
            Self::Package => package::run(verbose),
            Self::Host => Stage::cargo(&["test", "--workspace", "--no-fail-fast"]).tests(verbose),
            Self::Loom => loom().tests(verbose),
            Self::Build => own(build::all().map(|_| ())),
            Self::Boot => boot(verbose),
            Self::Machines => machines::run(verbose),
            Self::Figures => own(bench::run(&bench::Arguments::check())),
        }
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    if let Some(count) = arguments.stress {
        return stress::run(count, arguments.seed);
    }
    if let Some(kind) = arguments.machine {
        build::all()?;
        let verbose = arguments.verbose;
        let tally = if kind == Kind::Qemu { boot(verbose) } else { machines::run_all(kind, verbose) };
        return verdict(tally);
    }
    let wanted = |name: &Name| {
        (arguments.only.is_empty() || arguments.only.contains(name)) && !arguments.skip.contains(name)
    };
    let mut rows: Vec<(Name, Tally, Duration)> = Vec::new();
    for name in ALL.into_iter().filter(wanted) {
        println!("=== {}", name.text());
        let started = Instant::now();
        // Images of an earlier build would answer for this one.
        let unbuilt = matches!(name, Name::Boot | Name::Machines)
            && rows.iter().any(|(name, tally, _)| *name == Name::Build && tally.failed > 0);
        let tally =
            if unbuilt { own(Err(Failure::new("not run: no images"))) } else { name.run(arguments.verbose) };
        rows.push((name, tally, started.elapsed()));
        print_row(name, tally, started.elapsed());
    }
    let total = rows.iter().fold(Tally::default(), |sum, (_, tally, _)| sum + *tally);
    println!("\n=== stages");
    for (name, tally, took) in &rows {
        print_row(*name, *tally, *took);
    }
    verdict(total)
}

fn verdict(total: Tally) -> Outcome<()> {
    println!("{} passed, {} failed", total.passed, total.failed);
    // The sum is the last line; the code says the rest.
    if total.failed == 0 { Ok(()) } else { Err(Failure::new("")) }
}

fn print_row(name: Name, tally: Tally, took: Duration) {
    let verdict = if tally.failed == 0 { "ok    " } else { "FAILED" };
    let Tally { passed, failed, ignored } = tally;
    let ignored = if ignored == 0 { String::new() } else { format!(", {ignored} ignored") };
    println!(
        "{verdict} {:<12} {:>7.1} s  {passed} passed, {failed} failed{ignored}",
        name.text(),
        took.as_secs_f64()
    );
}

/// A stage of ours counts as one test.
fn own(outcome: Outcome<()>) -> Tally {
    match outcome {
        Ok(()) => Tally::of_one(true),
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            Tally::of_one(false)
        }
    }
}

/// Runs cargo-deny by `.deny.toml`, where it is installed. Advisories are left out: they come from GitHub.
fn dependencies(verbose: bool) -> Tally {
    if workspace::in_path("cargo-deny").is_none() {
        println!("ignored: no cargo-deny; type `cargo install --locked cargo-deny`");
        return Tally { ignored: 1, ..Tally::default() };
    }
    let offline = ["deny", "--workspace", "--locked", "check", "bans", "licenses", "sources"];
    Stage::cargo(&offline).check(verbose)
}

/// loom's own cfg would rebuild everything else: it has a target directory to itself. Models are slow, so they are
/// optimized, but link-time optimization would cost more than it saves.
fn loom() -> Stage {
    let target = workspace::root().join("target/loom");
    Stage::cargo(&[
        "test",
        "-p",
        "pv-abi",
        "-p",
        "ring-buffers",
        "-p",
        "hv-core",
        "--release",
        "--no-fail-fast",
        "--test",
        "loom_*",
    ])
    .env("RUSTFLAGS", "--cfg loom")
    .env("LOOM_MAX_PREEMPTIONS", "3")
    .env("CARGO_PROFILE_RELEASE_LTO", "off")
    .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
    .env("CARGO_TARGET_DIR", target)
}

fn boot(verbose: bool) -> Tally {
    if let Err(failure) = crate::setup::cd().and_then(|()| crate::setup::bochs()) {
        return own(Err(failure));
    }
    // Without them the tests that boot Linux fail, and the others run.
    if let Err(failure) = linux::images() {
        eprintln!("error: {}", failure.message);
    }
    machines::boot(Kind::Qemu, &["boot_*"], verbose)
}
