//! A lock among vCPUs that do not all run: how much of what their CPU time was worth was done.

use super::{Evidence, cost};
use crate::bench::figure::Figure;
use crate::bench::window::real;

/// Reads them. Ideal is that all CPU time the guest got went into sections and thinking.
pub fn read(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    let said = evidence.first()?;
    let window = evidence.window()?.ok_or("not measured bare")?;
    let got = window.guests.first().map_or(0, |guest| guest.guest_ticks);
    let useful_ns = said.value("useful_ns")?;
    let mut figures = vec![
        evidence.single("ideal_percent", "% of ideal", real(useful_ns) / real(got.max(1)) * 100.0),
        evidence.single("holders_preempted", "sections", real(said.value("preempted")?)),
    ];
    figures.extend(cost::per_unit(evidence, &window, "section", window.value));
    figures.extend(cost::jain(evidence, window.guests.get(1..).unwrap_or(&[])));
    Ok(figures)
}
