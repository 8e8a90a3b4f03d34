//! Two guests that send one another records.

use super::{Evidence, cost};
use crate::bench::figure::Figure;
use crate::bench::window::real;

/// Reads them. A round trip is two messages.
pub fn read(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    let round_trips = evidence.first()?.value("round_trips")?;
    let window = evidence.window()?.ok_or("not measured bare")?;
    let each = real(window.ticks) / real(round_trips.max(1));
    let mut figures = vec![evidence.single("instructions_per_round_trip", "instructions", each)];
    figures.extend(cost::per_unit(evidence, &window, "message", round_trips * 2));
    Ok(figures)
}
