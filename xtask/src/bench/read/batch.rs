//! Guests that compute: exits a second, the hypervisor's share, fairness.

use super::{Evidence, cost};
use crate::bench::figure::Figure;
use crate::bench::window::real;

/// Reads them.
pub fn read(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    let window = evidence.window()?.ok_or("not measured bare")?;
    let mut figures = vec![
        evidence.single("exits_per_second", "exits/s", real(window.exits()) / window.seconds()),
        cost::share(evidence, &window),
    ];
    figures.extend(cost::by_reason(evidence, &window, "exits_per_second", "exits/s", window.seconds()));
    figures.extend(cost::jain(evidence, &window.guests));
    Ok(figures)
}
