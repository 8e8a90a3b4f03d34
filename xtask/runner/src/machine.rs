//! The machine: what QEMU is asked for.

mod arguments;
mod board;
mod bochs;
mod console;
mod evidence;
mod excluded;
mod files;
mod running;
mod verdict;

use crate::images;
use crate::iso::IsoError;
use crate::refusal::Refusal;
use crate::scenario::Scenario;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use arguments::UEFI;
pub use board::{Board, Device};
pub use console::{Line, Speaker};
pub use evidence::Mark;
pub use excluded::EXCLUDED;
pub use running::Running;
pub use verdict::{Ended, Outcome};

/// The emulator.
pub const QEMU: &str = "qemu-system-x86_64";

/// The other emulator, with Intel's VMX.
pub const BOCHS: &str = "bochs";

/// What executes the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Accelerator {
    /// QEMU's translator, with AMD's SVM.
    #[default]
    Tcg,
    /// The host's processor, where nested virtualization is on.
    Kvm,
}

/// Which machine, and by which of its ways the hypervisor starts. A bare kernel always starts in QEMU, by `-kernel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// QEMU, by PVH.
    #[default]
    Qemu,
    /// QEMU, from a CD by BIOS and GRUB.
    QemuCd,
    /// QEMU, from a CD by UEFI and GRUB.
    QemuUefi,
    /// Bochs with VMX, from a CD.
    BochsIntel,
    /// Bochs with SVM, from a CD.
    BochsAmd,
}

impl Kind {
    /// Every machine by its name.
    pub const ALL: [(&str, Self); 5] = [
        ("qemu", Self::Qemu),
        ("qemu-cd", Self::QemuCd),
        ("qemu-uefi", Self::QemuUefi),
        ("bochs-intel", Self::BochsIntel),
        ("bochs-amd", Self::BochsAmd),
    ];

    /// The machine of that name.
    ///
    /// # Errors
    ///
    /// That there is none.
    pub fn named(name: &str) -> Result<Self, NoSuchMachine> {
        let kind = Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| kind);
        kind.ok_or_else(|| NoSuchMachine(name.into()))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, known)| *known == self).map_or("?", |(name, _)| name)
    }

    /// The machine that boot tests, and whatever is told of none, are to run on: `$COMITY_MACHINE`, else QEMU.
    ///
    /// # Errors
    ///
    /// That the variable names none.
    pub fn of_tests() -> Result<Self, NoSuchMachine> {
        Self::of_variable(std::env::var_os("COMITY_MACHINE").as_deref())
    }

    fn of_variable(value: Option<&OsStr>) -> Result<Self, NoSuchMachine> {
        value.map_or(Ok(Self::default()), |name| Self::named(&name.to_string_lossy()))
    }

    /// Whether it is Bochs.
    pub fn is_bochs(self) -> bool {
        matches!(self, Self::BochsIntel | Self::BochsAmd)
    }

    /// More words for every guest: where firmware and GRUB take long, moments count from when the hypervisor comes.
    fn words(self) -> &'static str {
        if self.is_bochs() { " zero_ms=3500" } else { "" }
    }

    fn has_cd(self) -> bool {
        self != Self::Qemu
    }

    /// How much longer than QEMU it may take.
    fn patience(self) -> u32 {
        if self.is_bochs() { 16 } else { 1 }
    }
}

/// A machine's name that none has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchMachine(String);

impl fmt::Display for NoSuchMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Kind::ALL.map(|(name, _)| name).join(", ");
        write!(f, "no machine is named '{}'; there are {known}", self.0)
    }
}

impl std::error::Error for NoSuchMachine {}

/// What boots.
#[derive(Clone, Debug)]
enum Boot {
    /// The hypervisor with a bundle.
    Hypervisor { image: PathBuf, bundle: Vec<u8> },
    /// A guest kernel with nothing beneath it.
    Bare { kernel: PathBuf, initrd: Option<PathBuf>, board: Board },
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Machine {
    boot: Boot,
    kind: Kind,
    /// Why `kind` is not what the environment asks for; the machine does not start then.
    misnamed: Option<NoSuchMachine>,
    command_line: String,
    memory_mib: u32,
    cpus: u8,
    cpu_model: Option<String>,
    accelerator: Accelerator,
    icount: bool,
    gdb_port: Option<u16>,
    exit_device: bool,
    com1: bool,
    stick: bool,
    terminal: bool,
    timeout: Option<Duration>,
}

/// Why a machine did not start.
#[derive(Debug)]
pub enum StartError {
    /// A file for it could not be written.
    Files(std::io::Error),
    /// The environment names no machine that there is.
    Environment(NoSuchMachine),
    /// An image is not there.
    NoImage(PathBuf),
    /// The CD could not be made.
    Cd(IsoError),
    /// The emulator is not there or could not be started.
    Emulator(&'static str, std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(error) => write!(f, "the machine's files: {error}"),
            Self::Environment(error) => write!(f, "COMITY_MACHINE: {error}"),
            Self::NoImage(path) => {
                write!(f, "{}: no such image; `cargo xtask build` makes them", path.display())
            }
            Self::Cd(error) => write!(f, "{error}"),
            Self::Emulator(name, error) => write!(f, "{name}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Machine {
    /// Returns a machine that runs the hypervisor with a scenario's guests.
    ///
    /// # Errors
    ///
    /// What is wrong with the scenario's files.
    pub fn of_scenario(scenario: &Scenario) -> Result<Self, Refusal> {
        let config = &scenario.machine;
        Ok(Self {
            command_line: scenario.command_line(),
            memory_mib: config.memory_mib,
            cpus: config.cpus,
            icount: config.icount,
            timeout: Some(config.timeout),
            ..Self::of_bundle(scenario.bundle_with(Kind::of_tests().map_or("", Kind::words))?)
        })
    }

    /// Returns a machine that runs the hypervisor with any bytes for a bundle.
    pub fn of_bundle(bundle: Vec<u8>) -> Self {
        Self::new(Boot::Hypervisor { image: images::hypervisor(), bundle })
    }

    /// Returns a machine that runs a guest kernel with nothing beneath it.
    pub fn bare(kernel: impl Into<PathBuf>) -> Self {
        Self::new(Boot::Bare { kernel: kernel.into(), initrd: None, board: Board::Pc })
    }

    fn new(boot: Boot) -> Self {
        let (kind, misnamed) = match (&boot, Kind::of_tests()) {
            (Boot::Bare { .. }, _) => (Kind::Qemu, None),
            (Boot::Hypervisor { .. }, Ok(kind)) => (kind, None),
            (Boot::Hypervisor { .. }, Err(misnamed)) => (Kind::default(), Some(misnamed)),
        };
        Self {
            boot,
            kind,
            misnamed,
            command_line: String::new(),
            memory_mib: 512,
            cpus: 1,
            cpu_model: None,
            accelerator: Accelerator::Tcg,
            icount: false,
            gdb_port: None,
            exit_device: true,
            com1: true,
            stick: false,
            terminal: false,
            timeout: Some(Duration::from_secs(60)),
        }
    }

    /// Sets the command line: the bare kernel's, or more words for the hypervisor's.
    #[must_use]
    pub fn command_line(mut self, words: &str) -> Self {
        if !self.command_line.is_empty() {
            self.command_line.push(' ');
        }
        self.command_line.push_str(words);
        self
    }

    /// Gives a bare kernel an initial RAM disk; a hypervisor's guests have theirs in the bundle.
    #[must_use]
    pub fn initrd(mut self, file: Option<PathBuf>) -> Self {
        if let Boot::Bare { initrd, .. } = &mut self.boot {
            *initrd = file;
        }
        self
    }

    /// Sets the board under a bare kernel.
    #[must_use]
    pub fn board(mut self, under: Board) -> Self {
        if let Boot::Bare { board, .. } = &mut self.boot {
            *board = under;
        }
        self
    }

    /// Boots another hypervisor than `target/images/comity`.
    #[must_use]
    pub fn hypervisor(mut self, file: PathBuf) -> Self {
        if let Boot::Hypervisor { image, .. } = &mut self.boot {
            *image = file;
        }
        self
    }

    /// Sets the RAM, in MiB.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Sets the number of processors.
    #[must_use]
    pub fn cpus(mut self, cpus: u8) -> Self {
        self.cpus = cpus;
        self
    }

    /// Sets which machine the hypervisor boots on.
    #[must_use]
    pub fn on(mut self, kind: Kind) -> Self {
        if let Boot::Hypervisor { .. } = self.boot {
            (self.kind, self.misnamed) = (kind, None);
        }
        self
    }

    /// Sets the emulator's CPU model; QEMU's is `max` otherwise, Bochs' the one of its kind.
    #[must_use]
    pub fn cpu_model(mut self, model: &str) -> Self {
        self.cpu_model = Some(model.into());
        self
    }

    /// Sets what executes the instructions.
    #[must_use]
    pub fn accelerator(mut self, accelerator: Accelerator) -> Self {
        self.accelerator = accelerator;
        self
    }

    /// Counts time in instructions, one a nanosecond, the same on every run.
    #[must_use]
    pub fn icount(mut self) -> Self {
        self.icount = true;
        self
    }

    /// Takes isa-debug-exit away, as on a PC: QEMU then ends when the machine is powered off.
    #[must_use]
    pub fn without_exit_device(mut self) -> Self {
        self.exit_device = false;
        self
    }

    /// Shows all of COM1 on standard output as it comes; its lines are read besides.
    #[must_use]
    pub fn on_terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Puts what would be its CD on a USB stick, into a PC of PCI Express times.
    #[must_use]
    pub fn from_stick(mut self) -> Self {
        self.stick = true;
        self
    }

    /// Takes COM1 away and gives it a screen, as on today's PC: `tests::screen` reads that.
    #[must_use]
    pub fn without_com1(mut self) -> Self {
        self.com1 = false;
        self
    }

    /// Stops before the first instruction and waits for gdb on a port of this host.
    #[must_use]
    pub fn gdb(mut self, port: u16) -> Self {
        self.gdb_port = Some(port);
        self
    }

    /// Sets how long it may take; `None` is for ever.
    #[must_use]
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// What it boots.
    pub fn image(&self) -> &Path {
        match &self.boot {
            Boot::Hypervisor { image, .. } => image,
            Boot::Bare { kernel, .. } => kernel,
        }
    }

    /// Starts it. The thread that calls this must outlive the machine: QEMU is killed when that thread ends.
    ///
    /// # Errors
    ///
    /// When the environment names no machine that there is, or an image, QEMU, or room for its files is missing.
    pub fn start(&self) -> Result<Running, StartError> {
        Running::start(self)
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn run(&self) -> Result<Outcome, StartError> {
        self.start().map(Running::finish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_not_there_is_not_another_one() {
        let of = |value: Option<&str>| Kind::of_variable(value.map(OsStr::new));
        assert_eq!(of(None), Ok(Kind::Qemu));
        assert!(Kind::ALL.iter().all(|(name, kind)| of(Some(name)) == Ok(*kind)));
        let refused = of(Some("bochs_intel")).map_err(StartError::Environment).unwrap_err().to_string();
        let expected = "COMITY_MACHINE: no machine is named 'bochs_intel'; there are qemu, qemu-cd, qemu-uefi, bochs-intel, \
                        bochs-amd";
        assert_eq!(refused, expected);
    }

    #[test]
    fn a_machine_without_a_name_does_not_start_until_it_has_one() {
        let misnamed = Some(NoSuchMachine("bochs_intel".into()));
        let machine = Machine { misnamed, ..Machine::of_bundle(vec![1]).hypervisor("/no/such/image".into()) };
        assert!(matches!(machine.start(), Err(StartError::Environment(_))));
        assert!(matches!(machine.on(Kind::Qemu).start(), Err(StartError::NoImage(_))));
    }
}
