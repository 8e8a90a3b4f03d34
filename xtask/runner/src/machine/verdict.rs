//! How a machine ended, and what it left.

use super::{Line, Speaker};
use crate::symbols::Symbols;
use crate::telemetry::Telemetry;
use hv_format::record::Record;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How a machine ended. isa-debug-exit makes `value * 2 + 1` of what is written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every guest ended well, or a bare kernel said so: 0x10.
    Well,
    /// A guest ended badly: 0x11.
    Badly,
    /// The hypervisor refused to start, for a bad bundle or a machine without SVM: 0x12.
    Refused,
    /// The hypervisor panicked: 0x13.
    Panicked,
    /// The machine was switched off, or reset without a fault.
    PoweredOff,
    /// A processor took a triple fault outside any guest.
    TripleFault,
    /// It was stopped after its time.
    TimedOut,
    /// The emulator failed, with its exit code if it had one.
    Emulator(Option<i32>),
}

impl Ended {
    /// Reads QEMU's exit code.
    pub(super) fn of_exit(code: Option<i32>, triple_fault: bool) -> Self {
        match code {
            Some(0x21) => Self::Well,
            Some(0x23) => Self::Badly,
            Some(0x25) => Self::Refused,
            Some(0x27) => Self::Panicked,
            Some(0) if triple_fault => Self::TripleFault,
            Some(0) => Self::PoweredOff,
            Some(_) | None => Self::Emulator(code),
        }
    }
}

impl Ended {
    /// Reads the hypervisor's last line, where the emulator's exit code says nothing.
    pub(super) fn of_words(lines: &[Line]) -> Self {
        let hypervisor = lines.iter().rev().filter(|line| line.speaker == Speaker::Hypervisor);
        match hypervisor.filter_map(|line| line.text.strip_prefix("end: verdict=")).next() {
            Some("Well") => Self::Well,
            Some("GuestEndedBadly") => Self::Badly,
            Some("Refused") => Self::Refused,
            Some("Panic") => Self::Panicked,
            Some(_) | None => Self::Emulator(None),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well => write!(f, "ended well"),
            Self::Badly => write!(f, "a guest ended badly"),
            Self::Refused => write!(f, "the hypervisor refused to start"),
            Self::Panicked => write!(f, "the hypervisor panicked"),
            Self::PoweredOff => write!(f, "the machine was switched off or reset"),
            Self::TripleFault => write!(f, "triple fault: the machine was reset (--gdb shows where)"),
            Self::TimedOut => write!(f, "stopped: out of time"),
            Self::Emulator(Some(code)) => write!(f, "the emulator failed with code {code}"),
            Self::Emulator(None) => write!(f, "the emulator was killed"),
        }
    }
}

/// What a machine left.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What booted.
    pub image: PathBuf,
    /// How it ended.
    pub ended: Ended,
    /// QEMU's exit code; none when it was killed.
    pub exit_code: Option<i32>,
    /// COM1.
    pub console: Vec<Line>,
    /// Lines of COM1 that were not kept for want of room.
    pub console_lost_lines: usize,
    /// COM2.
    pub telemetry: Telemetry,
    /// From start to end.
    pub wall: Duration,
    /// What QEMU itself had to say.
    pub emulator_says: String,
}

impl Outcome {
    /// Whether it was stopped after its time.
    pub fn timed_out(&self) -> bool {
        self.ended == Ended::TimedOut
    }

    /// The records of COM2.
    pub fn records(&self) -> &[Record] {
        &self.telemetry.records
    }

    /// What one guest said, line by line.
    pub fn lines_of(&self, guest: &str) -> Vec<&str> {
        let said = |line: &&Line| matches!(&line.speaker, Speaker::Guest(name) if name == guest);
        self.console.iter().filter(said).map(|line| line.text.as_str()).collect()
    }

    /// What the hypervisor itself said, line by line.
    pub fn hypervisor_lines(&self) -> Vec<&str> {
        let said = |line: &&Line| line.speaker == Speaker::Hypervisor;
        self.console.iter().filter(said).map(|line| line.text.as_str()).collect()
    }

    /// Everything that helps to see why, for the message of a failed test.
    pub fn transcript(&self) -> String {
        let mut text = format!("--- {} after {:.1?}\n", self.ended, self.wall);
        let symbols = Symbols::of(&self.image);
        for line in &self.console {
            let line = line.to_string();
            text.push_str(&symbols.as_ref().map_or_else(|| line.clone(), |symbols| symbols.annotate(&line)));
            text.push('\n');
        }
        if self.console_lost_lines > 0 {
            text.push_str(&format!("--- and {} lines more\n", self.console_lost_lines));
        }
        text.push_str(&self.emulator_says);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exit_code_has_one_meaning() {
        let cases = [
            (Some(33), false, Ended::Well),
            (Some(35), false, Ended::Badly),
            (Some(37), false, Ended::Refused),
            (Some(39), false, Ended::Panicked),
            (Some(0), false, Ended::PoweredOff),
            (Some(0), true, Ended::TripleFault),
            (Some(33), true, Ended::Well),
            (Some(1), false, Ended::Emulator(Some(1))),
            (None, false, Ended::Emulator(None)),
        ];
        for (code, triple_fault, expected) in cases {
            assert_eq!(Ended::of_exit(code, triple_fault), expected, "{code:?} {triple_fault}");
        }
    }
}
