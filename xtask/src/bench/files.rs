//! The report as files: report.json and report.csv for other programs, report.html for people.

use super::figure::Figure;
use super::page;
use super::report::Report;
use crate::failure::{Attempt, Outcome};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes it in every form into `folder`; returns the files.
pub fn write(report: &Report, folder: &Path) -> Outcome<Vec<PathBuf>> {
    fs::create_dir_all(folder).attempt(folder.display())?;
    let json = serde_json::to_string_pretty(report).attempt("report.json")?;
    let forms = [
        ("report.json", json + "\n"),
        ("report.csv", csv(&report.figures)),
        ("report.html", page::render(report)),
    ];
    let mut files = Vec::new();
    for (name, text) in forms {
        let file = folder.join(name);
        fs::write(&file, text).attempt(file.display())?;
        files.push(file);
    }
    Ok(files)
}
/// One line a figure. Names and units hold no comma and no quote.
fn csv(figures: &[Figure]) -> String {
    let mut text = "name,mode,unit,value,min,runs\n".to_owned();
    for Figure { name, mode, unit, value, min, runs, .. } in figures {
        text.push_str(&format!("{name},{},{unit},{value},{min},{runs}\n", mode.name()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::Mode;
    use crate::bench::job::Length;

    #[test]
    fn what_was_written_is_read_back_and_the_names_are_those_of_the_documentation() {
        let folder = tempfile::tempdir().unwrap();
        let figure = Figure::single("micro.null_call".into(), Mode::Cooperative, "instructions", 152.0);
        let report = Report::new(Length::Quick, vec![figure.clone()]);
        let files = write(&report, folder.path()).unwrap();
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
