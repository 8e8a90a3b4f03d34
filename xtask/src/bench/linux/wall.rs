//! How long a boot takes by the host's clock, from the emulator's start to its end.

use super::{HYPERVISED, NOTHING, job};
use crate::bench::figure::{Figure, Mode};
use crate::bench::job::Clock;
use std::collections::BTreeMap;

/// Rounds of every mode, of which a figure is the median. Who is first takes turns, so it is an even number.
const ROUNDS: usize = 6;

/// Measures either mode, and the ratio to the bare machine of the same round.
///
/// A bare kernel on the microvm has nothing to measure the TSC by but the 8254, and hangs when a busy host spoils that: it is told the
/// frequency, which saves it the measurement.
pub fn measure() -> Result<Vec<Figure>, String> {
    let mut samples: BTreeMap<(&str, Mode), Vec<f64>> = BTreeMap::new();
    let mut keep = |name, mode, sample| samples.entry((name, mode)).or_default().push(sample);
    for round in 0..ROUNDS {
        let mut tsc_khz = 0;
        let mut hypervised = Vec::new();
        let (late, early) = HYPERVISED.split_at(round % HYPERVISED.len());
        for mode in early.iter().chain(late) {
            let machine =
                job("linux_boot", *mode, Clock::Host, "", NOTHING).map_err(|failure| failure.message)?;
            let (seconds, khz) =
                machine.look(|evidence| Ok((evidence.wall.as_secs_f64(), evidence.tsc_khz()?)))?;
            tsc_khz = khz;
            hypervised.push((*mode, seconds));
        }
        let words = format!(" tsc_early_khz={tsc_khz}");
        let machine =
            job("linux_boot", Mode::Bare, Clock::Host, &words, NOTHING).map_err(|failure| failure.message)?;
        let bare = machine.look(|evidence| Ok(evidence.wall.as_secs_f64()))?;
        keep("linux.boot_wall_s", Mode::Bare, bare);
        for (mode, seconds) in hypervised {
            keep("linux.boot_wall_s", mode, seconds);
            keep("linux.boot_wall_ratio", mode, seconds / bare);
        }
    }
    let figure = |((name, mode), samples): ((&str, Mode), Vec<f64>)| {
        let unit = if name.ends_with("_s") { "s of the host" } else { "times bare" };
        Figure::median(name.to_owned(), mode, unit, samples)
    };
    Ok(samples.into_iter().filter_map(figure).collect())
}
