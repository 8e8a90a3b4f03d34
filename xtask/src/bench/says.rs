//! What the bench guest, and Linux, print for programs: lines that begin with `#`.

use std::collections::BTreeMap;

/// A line `#figure NAME unit=U min=M median=D runs=N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// The guest's name for it.
    pub name: String,
    /// What it counts.
    pub unit: String,
    /// The least sample.
    pub min: u64,
    /// The middle one.
    pub median: u64,
    /// How many.
    pub runs: u64,
    /// Operations that ran between the marks around them, unmeasured ones included; as many as samples if not said.
    pub operations: u64,
}

/// All that one guest said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Figures of samples.
    pub figures: Vec<Sampled>,
    /// `#value NAME=N …`, and `#linux …`.
    pub values: BTreeMap<String, u64>,
    /// It came to its end: `#done`, or `#ok`.
    pub done: bool,
    /// `#bad …`: what went wrong in it.
    pub bad: Option<String>,
}

impl Said {
    /// Reads a guest's lines; those that do not begin with `#` are for people.
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut said = Self::default();
        for line in lines {
            let Some((kind, rest)) =
                line.strip_prefix('#').map(|line| line.split_once(' ').unwrap_or((line, "")))
            else {
                continue;
            };
            match kind {
                "figure" => said.figures.extend(sampled(rest)),
                "value" | "linux" => said
                    .values
                    .extend(pairs(rest).filter_map(|(key, value)| Some((key.into(), value.parse().ok()?)))),
                "done" | "ok" => said.done = true,
                "bad" => said.bad = Some(rest.into()),
                _ => {}
            }
        }
        said
    }

    /// A value that must be there.
    pub fn value(&self, name: &str) -> Result<u64, String> {
        self.values.get(name).copied().ok_or_else(|| format!("the guest did not say '{name}'"))
    }
}

fn pairs(words: &str) -> impl Iterator<Item = (&str, &str)> {
    words.split_ascii_whitespace().filter_map(|word| word.split_once('='))
}

fn sampled(rest: &str) -> Option<Sampled> {
    let (name, rest) = rest.split_once(' ')?;
    let all: BTreeMap<&str, &str> = pairs(rest).collect();
    let number = |key: &str| all.get(key).and_then(|value| value.parse::<u64>().ok());
    let runs = number("runs")?;
    Some(Sampled {
        name: name.into(),
        unit: (*all.get("unit")?).into(),
        min: number("min")?,
        median: number("median")?,
        runs,
        operations: number("operations").unwrap_or(runs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_lines_are_taken_apart_and_others_passed_over() {
        let said = Said::read([
            "bench: micro mode=full",
            "#figure null_call unit=instructions min=150 median=152 runs=200 operations=208",
            "#figure broken unit=instructions min=x",
            "#value requests=12 late=0",
            "#value word=abc",
            "#skip eoi no",
            "#done micro",
        ]);
        let [figure] = &said.figures[..] else { panic!("{said:?}") };
        assert_eq!((figure.name.as_str(), figure.min, figure.median), ("null_call", 150, 152));
        assert_eq!((figure.runs, figure.operations), (200, 208));
        assert_eq!(said.value("requests"), Ok(12));
        assert!(said.value("word").is_err());
        assert!(said.done && said.bad.is_none());
        let linux =
            Said::read(["#linux up do=spin cpus=1", "#linux spin iterations=7 ns=9", "#ok linux do=spin"]);
        assert_eq!((linux.value("cpus"), linux.value("iterations")), (Ok(1), Ok(7)));
        assert!(linux.done);
    }
}
