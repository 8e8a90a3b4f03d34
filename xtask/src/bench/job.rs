//! One machine to boot for figures: a scenario in one mode.

use super::figure::{Figure, Mode};
use super::read::{Evidence, Reader};
use super::says::Said;
use crate::failure::{Failure, Outcome};
use hv_format::manifest;
use runner::machine::{Ended, Kind, Machine};
use runner::scenario::Scenario;
use std::path::Path;
use std::time::Duration;

/// How long windows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// A fifth of it.
    Quick,
    /// As the scenarios say.
    Whole,
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Instructions: the same on every run.
    Counted,
    /// The host's, and a thread of the host's for each processor.
    Host,
}

/// Milliseconds of a whole window, in every scenario.
const WINDOW_MS: u64 = 1000;
/// Milliseconds of a quick one.
const QUICK_WINDOW_MS: u64 = 200;
/// Lines of the console shown for a machine that failed.
const LAST_LINES: usize = 12;

/// A machine to boot.
pub struct Job {
    /// The scenario and the mode, for people.
    pub name: String,
    prefix: &'static str,
    mode: Mode,
    guests: Vec<String>,
    machine: Machine,
    read: Reader,
}

impl Job {
    /// Makes a machine of the scenario in `file`, all its guests in one mode. Bare, the first guest's kernel runs alone.
    ///
    /// # Errors
    ///
    /// What is wrong with the scenario.
    pub fn new(file: &Path, prefix: &'static str, mode: Mode, length: Length, read: Reader) -> Outcome<Self> {
        Self::on(file, prefix, mode, length, read, Clock::Counted, None)
    }

    /// The same by another clock, and on another number of processors than the scenario's.
    ///
    /// # Errors
    ///
    /// What is wrong with the scenario.
    pub fn on(
        file: &Path,
        prefix: &'static str,
        mode: Mode,
        length: Length,
        read: Reader,
        clock: Clock,
        cpus: Option<u8>,
    ) -> Outcome<Self> {
        let refused = |refusal: runner::refusal::Refusal| Failure::new(refusal.to_string());
        let mut scenario = Scenario::load(file).map_err(refused)?;
        scenario.machine.icount = clock == Clock::Counted;
        scenario.machine.cpus = cpus.unwrap_or(scenario.machine.cpus);
        for (guest, number) in scenario.guests.iter_mut().zip(0..) {
            guest.mode = match mode {
                Mode::Full => manifest::Mode::Full,
                Mode::Kvm => manifest::Mode::Kvm,
                Mode::Mixed if number % 2 == 1 => manifest::Mode::Full,
                Mode::Bare | Mode::Cooperative | Mode::Mixed | Mode::CooperativeVmx => {
                    manifest::Mode::Cooperative
                }
            };
            guest.mark_port = guest.mode != manifest::Mode::Cooperative;
            // A full guest is told by no firmware table how many processors it has.
            let processors = if mode == Mode::Bare { scenario.machine.cpus } else { guest.vcpus };
            guest.command_line = format!("{} cpus={processors}", shortened(&guest.command_line, length));
        }
        let machine = match (mode, scenario.guests.first()) {
            (Mode::Full | Mode::Kvm | Mode::Cooperative | Mode::Mixed, _) => {
                Machine::of_scenario(&scenario).map_err(refused)?
            }
            (Mode::CooperativeVmx, _) => {
                Machine::of_scenario(&scenario).map_err(refused)?.on(Kind::BochsIntel)
            }
            (Mode::Bare, Some(guest)) => {
                let bare = Machine::bare(guest.kernel.clone())
                    .command_line(&guest.command_line)
                    .cpus(scenario.machine.cpus)
                    .memory_mib(guest.memory_mib.max(64));
                if clock == Clock::Counted { bare.icount() } else { bare }
            }
            (Mode::Bare, None) => return Err(Failure::new(format!("{}: no guest in it", file.display()))),
        };
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let guests = scenario.guests.into_iter().map(|guest| guest.name).collect();
        Ok(Self::of_machine(&stem, prefix, mode, guests, machine, read))
    }

    /// A machine of whoever asks, with its guests by name.
    pub fn of_machine(
        stem: &str,
        prefix: &'static str,
        mode: Mode,
        guests: Vec<String>,
        machine: Machine,
        read: Reader,
    ) -> Self {
        let machine = machine.timeout(Some(Duration::from_secs(420)));
        Self { name: format!("{stem} {}", mode.name()), prefix, mode, guests, machine, read }
    }

    /// Boots it and reads its figures.
    ///
    /// # Errors
    ///
    /// What went wrong, with the machine's last lines.
    pub fn run(&self) -> Result<Vec<Figure>, String> {
        self.look(|evidence| (self.read)(evidence))
    }

    /// Boots it and looks at what it left.
    ///
    /// # Errors
    ///
    /// What went wrong, with the machine's last lines.
    pub fn look<T>(&self, look: impl FnOnce(&Evidence<'_>) -> Result<T, String>) -> Result<T, String> {
        let outcome = self.machine.run().map_err(|error| error.to_string())?;
        let last = || {
            let lines: Vec<String> = outcome.console.iter().map(ToString::to_string).collect();
            lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ")
        };
        let failure = |why: String| format!("{}: {why}\n  {}", self.name, last());
        let powered_off = self.mode == Mode::Bare && outcome.ended == Ended::PoweredOff;
        if outcome.ended != Ended::Well && !powered_off {
            return Err(failure(format!("{} after {:.0?}", outcome.ended, outcome.wall)));
        }
        let said: Vec<Said> = if self.mode == Mode::Bare {
            vec![Said::read(outcome.console.iter().map(|line| line.text.as_str()))]
        } else {
            self.guests.iter().map(|guest| Said::read(outcome.lines_of(guest))).collect()
        };
        for (said, guest) in said.iter().zip(&self.guests) {
            if let Some(bad) = &said.bad {
                return Err(failure(format!("guest {guest} says: {bad}")));
            }
            if !said.done {
                return Err(failure(format!("guest {guest} did not come to its end")));
            }
        }
        let evidence = Evidence {
            prefix: self.prefix,
            mode: self.mode,
            said: &said,
            records: outcome.records(),
            wall: outcome.wall,
        };
        look(&evidence).map_err(failure)
    }
}

/// A command line with its lengths as wanted: `window_ms`, and `run_ms` of those who are there beside a window.
fn shortened(line: &str, length: Length) -> String {
    let shorten = |word: &str| {
        let (key, value) = word.split_once('=')?;
        let value: u64 = value.parse().ok().filter(|_| ["window_ms", "run_ms"].contains(&key))?;
        let beside = value.saturating_sub(WINDOW_MS);
        Some(format!("{key}={}", QUICK_WINDOW_MS + beside))
    };
    match length {
        Length::Whole => line.to_owned(),
        Length::Quick => {
            let words =
                line.split_ascii_whitespace().map(|word| shorten(word).unwrap_or_else(|| word.to_owned()));
            words.collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_shortens_windows_and_nothing_else() {
        let line = "bench=server window_ms=1000 load=22 run_ms=1500";
        assert_eq!(shortened(line, Length::Whole), line);
        assert_eq!(shortened(line, Length::Quick), "bench=server window_ms=200 load=22 run_ms=700");
    }
}
