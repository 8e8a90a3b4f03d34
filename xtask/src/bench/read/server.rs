//! A server beside batch guests: latency, and what a request costs.

use super::{Evidence, cost};
use crate::bench::figure::Figure;
use crate::bench::window::real;

/// Reads them.
pub fn read(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    let said = evidence.first()?;
    let requests = said.value("requests")?;
    let mut figures = Vec::new();
    for tail in ["p50", "p99", "p999"] {
        let ns = said.value(&format!("latency_{tail}_ns"))?;
        let mut figure = evidence.single(&format!("{tail}_us"), "µs", real(ns) / 1000.0);
        figure.runs = requests;
        figures.push(figure);
    }
    if let Some(window) = evidence.window()? {
        figures.extend(cost::per_unit(evidence, &window, "request", requests));
        figures.extend(cost::jain(evidence, window.guests.get(1..).unwrap_or(&[])));
    }
    Ok(figures)
}
