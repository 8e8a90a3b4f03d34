//! A timer at 1 kHz: how late, and at what cost.

use super::{Evidence, cost};
use crate::bench::figure::Figure;
use crate::bench::window::real;

/// Reads them.
pub fn read(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    let mut figures = lateness(evidence)?;
    if let Some(window) = evidence.window()? {
        figures.extend(cost::per_unit(evidence, &window, "tick", evidence.first()?.value("ticks")?));
    }
    Ok(figures)
}

/// From when a tick was due to its handler.
pub fn lateness(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    let said = evidence.first()?;
    let ticks = said.value("ticks")?;
    if ticks == 0 {
        return Err("no tick".into());
    }
    let one = |tail: &str| {
        let ns = said.value(&format!("late_{tail}_ns"))?;
        let mut figure = evidence.single(&format!("lateness_{tail}_us"), "µs", real(ns) / 1000.0);
        figure.runs = ticks;
        Ok(figure)
    };
    ["p50", "p99"].into_iter().map(one).collect()
}
