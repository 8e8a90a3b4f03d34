//! The table: a line a figure, a column a mode, and what cooperation saves.

use super::figure::{Figure, Mode, readable, value};

const COLUMN: usize = 16;

/// Whether exits by reason have lines of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// They have.
    Shown,
    /// Only their sum has.
    Hidden,
}

/// Whether a figure is a part of another by reason, `SCENARIO.WHAT.REASON`.
pub fn is_part(name: &str) -> bool {
    name.matches('.').count() > 1
}

/// Draws the table; `ratio` is that of [`ratio`].
pub fn render(figures: &[Figure], parts: Parts) -> String {
    let shown: Vec<Figure> =
        figures.iter().filter(|figure| parts == Parts::Shown || !is_part(&figure.name)).cloned().collect();
    let figures = &shown[..];
    let wide = figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0).max("figure".len());
    let mut text = format!("{:wide$}", "figure");
    for heading in Mode::columns(figures).map(Mode::name).chain(["ratio"]) {
        text.push_str(&format!("{heading:>COLUMN$}"));
    }
    text.push_str("  unit\n");
    let mut section = "";
    for first in figures.iter().enumerate().filter_map(|(at, figure)| is_first(figures, at).then_some(figure))
    {
        let of = first.name.split('.').next().unwrap_or_default();
        if of != section && !section.is_empty() {
            text.push('\n');
        }
        section = of;
        text.push_str(&format!("{:wide$}", first.name));
        for mode in Mode::columns(figures) {
            let cell = value(figures, &first.name, mode).map_or("-".into(), readable);
            text.push_str(&format!("{cell:>COLUMN$}"));
        }
        let ratio = ratio(figures, &first.name).map_or("-".into(), |ratio| format!("{ratio:.2}"));
        text.push_str(&format!("{ratio:>COLUMN$}  {}\n", first.unit));
    }
    text
}

/// Whether no earlier figure has the name of the one at `at`.
pub fn is_first(figures: &[Figure], at: usize) -> bool {
    let name = figures.get(at).map(|figure| &figure.name);
    figures.iter().take(at).all(|figure| Some(&figure.name) != name)
}

/// Full / cooperative, where both are there and the latter is not 0. A Linux that has KVM's interface is cooperative.
pub fn ratio(figures: &[Figure], name: &str) -> Option<f64> {
    let full = value(figures, name, Mode::Full)?;
    let cooperative = value(figures, name, Mode::Cooperative).or_else(|| value(figures, name, Mode::Kvm))?;
    (cooperative != 0.0).then(|| full / cooperative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_every_mode_and_the_ratio() {
        let figure = |name: &str, mode, value| Figure::single(name.into(), mode, "instructions", value);
        let figures = [
            figure("micro.cpuid", Mode::Bare, 2.0),
            figure("micro.cpuid", Mode::Full, 300.0),
            figure("micro.cpuid", Mode::Cooperative, 150.0),
            figure("idle.exits_per_second", Mode::Cooperative, 0.0),
            figure("idle.exits_per_second.halt", Mode::Cooperative, 0.0),
        ];
        let table = render(&figures, Parts::Hidden);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["micro.cpuid", "2", "300", "150", "2.00", "instructions"]);
        assert!(lines[2].is_empty(), "sections stand apart");
        assert_eq!(lines.len(), 4, "parts are hidden");
        assert_eq!(render(&figures, Parts::Shown).lines().count(), 5);
        assert_eq!(lines[3], ["idle.exits_per_second", "-", "-", "0", "-", "instructions"]);
    }
}
