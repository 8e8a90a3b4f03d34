//! What moved between two reports.

use super::figure::{Figure, readable};

/// Below this a figure did not move.
const MOVED_PERCENT: f64 = 1.0;

/// Says what moved, what is new and what is gone.
pub fn render(old: &[Figure], new: &[Figure]) -> String {
    let mut text = String::new();
    for figure in new {
        match find(old, figure) {
            None => text.push_str(&format!("new   {} {}\n", figure.name, figure.mode.name())),
            Some(before) => {
                if let Some(percent) = moved(before.value, figure.value) {
                    text.push_str(&format!(
                        "moved {} {}: {} -> {} ({percent:+.1} %)\n",
                        figure.name,
                        figure.mode.name(),
                        readable(before.value),
                        readable(figure.value)
                    ));
                }
            }
        }
    }
    for figure in old.iter().filter(|figure| find(new, figure).is_none()) {
        text.push_str(&format!("gone  {} {}\n", figure.name, figure.mode.name()));
    }
    if text.is_empty() { format!("nothing moved by more than {MOVED_PERCENT} %\n") } else { text }
}

fn find<'a>(figures: &'a [Figure], like: &Figure) -> Option<&'a Figure> {
    figures.iter().find(|figure| figure.name == like.name && figure.mode == like.mode)
}

/// By how many percent, when it is more than [`MOVED_PERCENT`]. From 0 everything is infinitely far.
fn moved(before: f64, after: f64) -> Option<f64> {
    if before == after {
        return None;
    }
    let percent = (after - before) / before.abs() * 100.0;
    (percent.abs() > MOVED_PERCENT).then_some(percent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::Mode;

    fn figure(name: &str, value: f64) -> Figure {
        Figure::single(name.into(), Mode::Full, "x", value)
    }

    #[test]
    fn only_what_moved_by_more_than_a_percent_is_told() {
        let old = [figure("still", 100.0), figure("moved", 100.0), figure("zero", 0.0), figure("gone", 1.0)];
        let new = [figure("still", 101.0), figure("moved", 95.0), figure("zero", 0.0), figure("new", 1.0)];
        assert_eq!(
            render(&old, &new),
            "moved moved full: 100 -> 95 (-5.0 %)\nnew   new full\ngone  gone full\n"
        );
        assert_eq!(render(&old, &old), "nothing moved by more than 1 %\n");
        assert!(render(&[figure("zero", 0.0)], &[figure("zero", 1.0)]).contains("+inf"));
    }
}
