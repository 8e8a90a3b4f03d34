//! The committed micro figures, which a change may not let grow by 10 % unseen.

use super::figure::{Figure, Mode};
use serde::{Deserialize, Serialize};

/// A figure has failed when it is this much of the committed one, in percent.
const TOO_MUCH_PERCENT: f64 = 110.0;

/// A committed figure: the least sample, which the instruction clock repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Committed {
    /// Its name.
    pub name: String,
    /// Its column.
    pub mode: Mode,
    /// Its least sample.
    pub min: f64,
}

/// The text to commit for the figures of a run.
pub fn of(figures: &[Figure]) -> String {
    let lines: Vec<String> = figures
        .iter()
        .map(|Figure { name, mode, min, .. }| {
            format!("  {{\"name\": \"{name}\", \"mode\": \"{}\", \"min\": {min}}}", mode.name())
        })
        .collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// Reads the committed text.
pub fn read(text: &str) -> Result<Vec<Committed>, serde_json::Error> {
    serde_json::from_str(text)
}

/// A line for each committed figure that grew by 10 %, or is gone.
pub fn judge(committed: &[Committed], figures: &[Figure]) -> Vec<String> {
    let verdict = |old: &Committed| {
        let place = format!("{} {}", old.name, old.mode.name());
        match figures.iter().find(|figure| figure.name == old.name && figure.mode == old.mode) {
            None => Some(format!("{place}: committed as {}, not measured now", old.min)),
            Some(new) if new.min * 100.0 >= old.min * TOO_MUCH_PERCENT && new.min > old.min => {
                Some(format!("{place}: {} now, {} committed", new.min, old.min))
            }
            Some(_) => None,
        }
    };
    committed.iter().filter_map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_grew_by_ten_percent_or_vanished_is_named() {
        let figure = |name: &str, value| Figure::single(name.into(), Mode::Full, "instructions", value);
        let committed = read(&of(&[figure("a", 100.0), figure("b", 100.0), figure("zero", 0.0)])).unwrap();
        assert_eq!(committed.len(), 3);
        let fine = [figure("a", 109.0), figure("b", 50.0), figure("zero", 0.0), figure("new", 1.0)];
        assert!(judge(&committed, &fine).is_empty());
        let bad = judge(&committed, &[figure("a", 110.0), figure("zero", 1.0)]);
        assert_eq!(
            bad,
            [
                "a full: 110 now, 100 committed",
                "b full: committed as 100, not measured now",
                "zero full: 1 now, 0 committed"
            ]
        );
    }
}
