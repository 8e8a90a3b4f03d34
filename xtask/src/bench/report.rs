//! What a run measured, and on what: report.json.

use super::figure::Figure;
use super::job::Length;
use crate::failure::{Attempt, Outcome};
use crate::workspace;
use runner::machine::QEMU;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What report.json holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where the figures come from.
    pub machine: Machine,
    /// The figures, a name's modes together.
    pub figures: Vec<Figure>,
}

/// Where the figures come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The emulator and its clock.
    pub emulator: String,
    /// The CPU model.
    pub cpu: String,
    /// Programs by name.
    pub versions: BTreeMap<String, String>,
    /// The repository's commit; `+` behind it when files were changed.
    pub commit: String,
    /// `whole`, or `quick` when windows were shortened.
    pub windows: String,
}

impl Report {
    /// A report of this run.
    pub fn new(length: Length, figures: Vec<Figure>) -> Self {
        let windows = match length {
            Length::Quick => "quick",
            Length::Whole => "whole",
        };
        let mut versions = BTreeMap::new();
        versions.insert("comity".into(), env!("CARGO_PKG_VERSION").into());
        versions.insert("qemu".into(), first_line(QEMU, &["--version"]));
        versions.insert("rustc".into(), first_line("rustc", &["--version"]));
        Self {
            machine: Machine {
                emulator: "QEMU TCG, -icount shift=0: 1 instruction = 1 tick = 1 ns".into(),
                cpu: "max,+svm,+npt".into(),
                versions,
                commit: commit(),
                windows: windows.into(),
            },
            figures,
        }
    }

    /// Reads an earlier one.
    pub fn load(file: &Path) -> Outcome<Self> {
        let text = fs::read_to_string(file).attempt(file.display())?;
        serde_json::from_str(&text).attempt(file.display())
    }
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(workspace::root()).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|changes| !changes.is_empty());
    if changed { commit + "+" } else { commit }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}
