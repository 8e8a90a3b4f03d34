//! Idle guests beside one that wakes at 1 kHz.

use super::{Evidence, cost, tick};
use crate::bench::figure::Figure;
use crate::bench::window::{exits, real};

/// Reads them.
pub fn read(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    let window = evidence.window()?.ok_or("not measured bare")?;
    let idle: u64 = window.guests.iter().skip(1).map(exits).sum();
    let mut figures = vec![evidence.single("exits_per_second", "exits/s", real(idle) / window.seconds())];
    figures.extend(tick::lateness(evidence)?);
    figures.push(cost::share(evidence, &window));
    Ok(figures)
}
