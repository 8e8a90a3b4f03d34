//! `cargo xtask run`: boots a scenario, or one kernel without any file, and shows what its guests say.

use crate::failure::{Attempt, Failure, Outcome};
use crate::show::Screen;
use crate::{build, linux, setup};
use hv_format::manifest::{Mode, TscTrust};
use runner::images;
use runner::machine::{Accelerator, Ended, Kind, Line, Machine};
use runner::scenario::{Guest, HYPERVISOR_MIB, MAX_TIMEOUT_S, MachineConfig, Scenario};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

mod terminal;

/// RAM of a machine for `--kernel`, in MiB, where the guest wants no more.
const USUAL_MIB: u32 = 512;

/// Arguments of the command.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["scenario", "kernel"])))]
pub struct Arguments {
    /// A scenario: tests/scenarios/NAME.toml.
    scenario: Option<PathBuf>,
    /// A kernel: an ELF with a PVH note, a bzImage, the name of an image, or `linux` for Debian's.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// How the kernel is virtualized.
    #[arg(long, value_enum, default_value = "full", conflicts_with = "scenario")]
    mode: ModeName,
    /// The kernel's processors.
    #[arg(long, default_value_t = 1, value_name = "N", conflicts_with = "scenario")]
    vcpus: u8,
    /// The machine's processors; a scenario's own number otherwise.
    #[arg(long, value_name = "N", conflicts_with = "bare", value_parser = clap::value_parser!(u8).range(1..=64))]
    cpus: Option<u8>,
    /// The kernel's memory, in MiB.
    #[arg(long, default_value_t = 256, value_name = "MIB", conflicts_with = "scenario")]
    memory: u32,
    /// The kernel's command line.
    #[arg(
        long,
        default_value = "",
        value_name = "WORDS",
        conflicts_with = "scenario",
        allow_hyphen_values = true
    )]
    append: String,
    /// The kernel's initial RAM disk.
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    initrd: Option<PathBuf>,
    /// Boots the kernel with nothing beneath it.
    #[arg(long, conflicts_with = "scenario")]
    bare: bool,
    /// The guest that gets the keyboard's input.
    #[arg(long, value_name = "GUEST", conflicts_with = "kernel")]
    input: Option<String>,
    /// Waits for gdb before the first instruction, on this port.
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "1234")]
    gdb: Option<u16>,
    /// Stops the machine after S seconds, at most a day; 0 never does.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_TIMEOUT_S)))]
    timeout: Option<u32>,
    /// Counts time in instructions, the same on every run.
    #[arg(long)]
    icount: bool,
    /// What executes the machine's instructions.
    #[arg(long, value_enum, default_value = "tcg")]
    accel: AcceleratorName,
    /// The machine: qemu, qemu-cd, qemu-uefi, bochs-intel or bochs-amd.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["bare", "accel", "gdb", "icount"], value_parser = Kind::named)]
    machine: Option<Kind>,
    /// QEMU's CPU model.
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// Uses the images of the last build.
    #[arg(long)]
    no_build: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ModeName {
    Full,
    /// An ordinary PC with KVM's paravirtual interface.
    Kvm,
    Cooperative,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum AcceleratorName {
    Tcg,
    Kvm,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    // A scenario with a mistake in it is refused before anything is built for it.
    let scenario = scenario(arguments)?;
    let kind = kind(arguments)?;
    match kind {
        Kind::Qemu => setup::emulator()?,
        Kind::QemuCd | Kind::QemuUefi => setup::cd()?,
        Kind::BochsIntel | Kind::BochsAmd => setup::bochs()?,
    }
    if !arguments.no_build {
        build::all()?;
    }
    let kernels =
        scenario.iter().flat_map(|scenario| scenario.guests.iter().map(|guest| guest.kernel.clone()));
    if kernels
        .chain(arguments.kernel.as_deref().map(kernel_file))
        .any(|kernel| kernel == images::linux_kernel())
    {
        linux::images()?;
    }
    let machine = machine(arguments, scenario.as_ref(), kind)?;
    if scenario.is_some_and(|scenario| scenario.terminal) {
        let _raw = terminal::Raw::set();
        return boot(&machine.on_terminal(), arguments.bare, |_| ());
    }
    let mut screen = Screen::new(machine.image());
    boot(&machine, arguments.bare, |line| screen.show(line))
}

/// Which machine it boots on; a bare kernel boots on QEMU.
fn kind(arguments: &Arguments) -> Outcome<Kind> {
    match arguments.machine {
        Some(kind) => Ok(kind),
        None if arguments.bare => Ok(Kind::Qemu),
        None => Kind::of_tests().attempt("COMITY_MACHINE"),
    }
}

/// What the arguments ask for; none when a kernel boots bare.
fn scenario(arguments: &Arguments) -> Outcome<Option<Scenario>> {
    let refused = |refusal: runner::refusal::Refusal| Failure::new(refusal.to_string());
    let mut scenario = match (&arguments.scenario, &arguments.kernel) {
        (Some(file), _) => Scenario::load(file).map_err(refused)?,
        (None, Some(kernel)) if !arguments.bare => {
            let kernel = kernel_file(kernel);
            let guest = guest(arguments, kernel);
            let machine = MachineConfig {
                memory_mib: USUAL_MIB.max(arguments.memory.saturating_add(spare_mib(&guest))),
                tsc: match arguments.accel {
                    AcceleratorName::Tcg => TscTrust::Trusted,
                    AcceleratorName::Kvm => TscTrust::Invariant,
                },
                ..MachineConfig::default()
            };
            Scenario::of_guest(machine, guest).map_err(refused)?
        }
        (None, _) => return Ok(None),
    };
    if let Some(cpus) = arguments.cpus {
        scenario.machine.cpus = cpus;
    }
    if let Some(name) = &arguments.input {
        if scenario.guests.iter().all(|guest| &guest.name != name) {
            return Err(Failure::new(format!("--input: no guest is named '{name}'")));
        }
        scenario.input = Some(name.clone());
    }
    Ok(Some(scenario))
}

fn guest(arguments: &Arguments, kernel: PathBuf) -> Guest {
    let stem = kernel.file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem.chars().filter(|letter| letter.is_ascii_alphanumeric()).take(16).collect();
    Guest {
        mode: match arguments.mode {
            ModeName::Full => Mode::Full,
            ModeName::Kvm => Mode::Kvm,
            ModeName::Cooperative => Mode::Cooperative,
        },
        vcpus: arguments.vcpus,
        memory_mib: arguments.memory,
        command_line: arguments.append.clone(),
        initrd: initrd(arguments),
        ..Guest::new(if name.is_empty() { "guest" } else { &name }, kernel)
    }
}

/// What the hypervisor and the bundle take besides the guest's own memory, in MiB, with some to spare.
fn spare_mib(guest: &Guest) -> u32 {
    let size = |file: &Path| file.metadata().map_or(0, |metadata| metadata.len());
    let bundle_bytes = size(&guest.kernel) + guest.initrd.as_deref().map_or(0, size);
    u32::try_from(HYPERVISOR_MIB + (bundle_bytes >> 20) + 2).unwrap_or(u32::MAX)
}

/// Debian's kernel, by name: with its own initial RAM disk, where none is given.
const LINUX: &str = "linux";

fn initrd(arguments: &Arguments) -> Option<PathBuf> {
    let is_linux = arguments.kernel.as_deref().map(kernel_file) == Some(images::linux_kernel());
    arguments.initrd.clone().or_else(|| is_linux.then(images::linux_initrd))
}

/// A file that is there, or the image of that name.
fn kernel_file(named: &Path) -> PathBuf {
    let word = named.to_str().filter(|name| !name.contains(['/', '.']));
    match word {
        Some(LINUX) if !named.is_file() => images::linux_kernel(),
        Some(name) if !named.is_file() => images::guest(name),
        Some(_) | None => named.to_path_buf(),
    }
}

fn machine(arguments: &Arguments, scenario: Option<&Scenario>, kind: Kind) -> Outcome<Machine> {
    let mut machine = match (scenario, &arguments.kernel) {
        (Some(scenario), _) => {
            let machine =
                Machine::of_scenario(scenario).map_err(|refusal| Failure::new(refusal.to_string()))?;
            if arguments.kernel.is_some() { machine.timeout(None) } else { machine }
        }
        (None, Some(kernel)) => Machine::bare(kernel_file(kernel))
            .command_line(&arguments.append)
            .initrd(initrd(arguments))
            .memory_mib(arguments.memory)
            .cpus(arguments.vcpus)
            .timeout(None),
        (None, None) => return Err(Failure::new("nothing to run")),
    };
    machine = machine.accelerator(match arguments.accel {
        AcceleratorName::Tcg => Accelerator::Tcg,
        AcceleratorName::Kvm => Accelerator::Kvm,
    });
    if arguments.icount {
        machine = machine.icount();
    }
    machine = machine.on(kind);
    if let Some(model) = &arguments.cpu {
        machine = machine.cpu_model(model);
    }
    if let Some(port) = arguments.gdb {
        eprintln!("gdb: gdb {} -ex 'target remote 127.0.0.1:{port}'", machine.image().display());
        machine = machine.gdb(port).timeout(None);
    }
    Ok(match arguments.timeout {
        None => machine,
        Some(seconds) => machine.timeout((seconds > 0).then(|| Duration::from_secs(seconds.into()))),
    })
}

/// Boots a machine, shows its console, and answers with a code for how it ended.
fn boot(machine: &Machine, bare: bool, mut show: impl FnMut(&Line)) -> Outcome<()> {
    let mut running = machine.start().map_err(|error| Failure::with_code(4, error.to_string()))?;
    if let Some(mut input) = running.take_input() {
        // Ends with the process, or when the machine no longer listens.
        thread::spawn(move || io::copy(&mut io::stdin().lock(), &mut input));
    }
    while let Some(line) = running.next_line() {
        show(&line);
    }
    let outcome = running.finish();
    eprint!("{}", outcome.emulator_says);
    if outcome.telemetry.broken_frames > 0 {
        eprintln!("warning: {} frames on COM2 did not decode", outcome.telemetry.broken_frames);
    }
    match code(outcome.ended, bare) {
        0 => Ok(()),
        code => Err(Failure::with_code(code, format!("{} after {:.1?}", outcome.ended, outcome.wall))),
    }
}

/// What the process answers: 0 well, 1 a guest, 2 refused, 3 the hypervisor, 4 QEMU, 124 out of time.
fn code(ended: Ended, bare: bool) -> u8 {
    match ended {
        Ended::Well => 0,
        Ended::PoweredOff if bare => 0,
        Ended::Badly => 1,
        Ended::TripleFault if bare => 1,
        Ended::Refused => 2,
        Ended::Panicked | Ended::TripleFault => 3,
        Ended::PoweredOff | Ended::Emulator(_) => 4,
        Ended::TimedOut => 124,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn the_code_says_how_the_machine_ended() {
        let cases = [
            (Ended::Well, false, 0),
            (Ended::Badly, false, 1),
            (Ended::Refused, false, 2),
            (Ended::Panicked, false, 3),
            (Ended::TripleFault, false, 3),
            (Ended::TripleFault, true, 1),
            (Ended::PoweredOff, false, 4),
            (Ended::PoweredOff, true, 0),
            (Ended::Emulator(Some(1)), false, 4),
            (Ended::TimedOut, true, 124),
        ];
        for (ended, bare, expected) in cases {
            assert_eq!(code(ended, bare), expected, "{ended:?} bare={bare}");
        }
    }

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn a_timeout_is_a_day_at_most() {
        let typed = |seconds: &str| Typed::try_parse_from(["run", "x.toml", "--timeout", seconds]);
        for seconds in ["0", "1", "86400"] {
            let timeout = typed(seconds).ok().and_then(|typed| typed.arguments.timeout);
            assert_eq!(timeout.map(|timeout| timeout.to_string()).as_deref(), Some(seconds));
        }
        for seconds in ["86401", "4294967296", "18446744073709551615", "-1"] {
            assert!(typed(seconds).is_err(), "{seconds}");
        }
    }

    #[test]
    fn a_kernel_is_a_file_or_the_name_of_an_image() {
        assert_eq!(kernel_file(Path::new("./hello")), Path::new("./hello"));
        assert_eq!(kernel_file(Path::new("no-such-file")), images::guest("no-such-file"));
    }
}
