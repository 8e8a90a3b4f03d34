//! The report as files: report.json and report.csv for other programs, report.html for people.

use super::figure::Figure;
use super::job::Length;
use super::page;
use crate::failure::{Attempt, Outcome};
use crate::workspace;
use ::tests::machine::QEMU;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
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

    /// Writes it in every form into `folder`; returns the files.
    pub fn write(&self, folder: &Path) -> Outcome<Vec<PathBuf>> {
        fs::create_dir_all(folder).attempt(folder.display())?;
        let json = serde_json::to_string_pretty(self).attempt("report.json")?;
        let forms = [
            ("report.json", json + "\n"),
            ("report.csv", csv(&self.figures)),
            ("report.html", page::render(self)),
        ];
        let mut files = Vec::new();
        for (name, text) in forms {
            let file = folder.join(name);
            fs::write(&file, text).attempt(file.display())?;
            files.push(file);
        }
        Ok(files)
    }
}

/// One line a figure. Names and units hold no comma and no quote.
fn csv(figures: &[Figure]) -> String {
    let mut text = "name,mode,unit,value,min,runs\n".to_owned();
    for Figure { name, mode, unit, value, min, runs, .. } in figures {
        text.push_str(&format!("{name},{},{unit},{value},{min},{runs}\n", mode.name()));
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::Mode;

    #[test]
    fn what_was_written_is_read_back_and_the_names_are_those_of_the_documentation() {
        let folder = tempfile::tempdir().unwrap();
        let figure = Figure::single("micro.null_call".into(), Mode::Cooperative, "instructions", 152.0);
        let report = Report::new(Length::Quick, vec![figure.clone()]);
        let files = report.write(folder.path()).unwrap();
        let read = Report::load(&files[0]).unwrap();
        assert_eq!(read.figures, [figure]);
        let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&files[0]).unwrap()).unwrap();
        for key in ["emulator", "cpu", "versions", "commit"] {
            assert!(!json["machine"][key].is_null(), "{key}");
        }
        assert_eq!(json["figures"][0]["mode"], "cooperative");
        assert_eq!(
            csv(&read.figures).lines().nth(1),
            Some("micro.null_call,cooperative,instructions,152,152,1")
        );
    }
}
