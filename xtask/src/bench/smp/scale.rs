//! Throughput at 1, 2 and 4 processors by the host's clock, as far as the host has them.

use super::All;
use crate::bench::figure::Mode;
use crate::bench::job::Clock;
use crate::bench::read::Evidence;
use crate::bench::window::real;

/// Work done in one second of the host's.
type Throughput = fn(&Evidence<'_>) -> Result<f64, String>;

/// Work done, and exits, in one second; no exits where the first guest has no window.
type Sample = (f64, Option<f64>);

/// A scenario, what it does, and how to read how much of it.
const WORK: [(&str, &str, Throughput); 5] = [
    ("batch", "pieces/s", |evidence| per_second(evidence, each(evidence, "pieces")?)),
    ("server", "requests/s", |evidence| per_second(evidence, each(evidence, "requests")?)),
    ("locks", "sections/s", |evidence| per_second(evidence, evidence.window_of_first()?.value)),
    ("pipe", "round trips/s", |evidence| per_second(evidence, each(evidence, "round_trips")?)),
    ("ring", "messages/s", ring),
];

/// Rounds of which a figure is the median.
const ROUNDS: usize = 3;

/// Numbers of processors.
const CPUS: [u8; 3] = [1, 2, 4];

/// Measures every workload in either mode, the numbers of processors by turns.
pub fn measure(all: &mut All) {
    let host =
        std::thread::available_parallelism().map_or(1, |count| u8::try_from(count.get()).unwrap_or(u8::MAX));
    for (work, unit, throughput) in WORK {
        for mode in [Mode::Full, Mode::Cooperative] {
            let file = format!("smp_{work}");
            let run = |cpus: u8| {
                all.once((&file, mode, Clock::Host, Some(cpus)), |evidence| {
                    Ok((throughput(evidence)?, exits(evidence)))
                })
            };
            let rounds: Result<Vec<Vec<Sample>>, String> =
                (0..ROUNDS).map(|_| CPUS.into_iter().map(run).collect()).collect();
            let rounds = match rounds {
                Ok(rounds) => rounds,
                Err(trouble) => {
                    all.troubles.push(trouble);
                    continue;
                }
            };
            for (at, cpus) in CPUS.into_iter().enumerate() {
                let of = |part: fn(&Sample) -> Option<f64>| {
                    rounds.iter().filter_map(|round| round.get(at).and_then(part)).collect::<Vec<f64>>()
                };
                if cpus <= host {
                    all.keep(
                        &format!("smp_{work}.throughput_{cpus}"),
                        mode,
                        unit,
                        Ok(of(|(done, _)| Some(*done))),
                    );
                    let gain = rounds.iter().filter_map(|round| Some(round.get(at)?.0 / round.first()?.0));
                    let gain: Vec<f64> = gain.collect();
                    if cpus > 1 {
                        all.keep(&format!("smp_{work}.gain_{cpus}"), mode, "times one processor", Ok(gain));
                    }
                }
                all.keep(&format!("smp_{work}.exits_{cpus}"), mode, "exits/s", Ok(of(|(_, exits)| *exits)));
            }
        }
    }
}

/// The sum of a value over all guests that said it.
fn each(evidence: &Evidence<'_>, key: &str) -> Result<u64, String> {
    let said: Vec<u64> = evidence.said.iter().filter_map(|said| said.value(key).ok()).collect();
    if said.is_empty() { Err(format!("no guest said '{key}'")) } else { Ok(said.into_iter().sum()) }
}

fn seconds(evidence: &Evidence<'_>) -> Result<f64, String> {
    let window = evidence.window_of_first()?;
    Ok(real(window.ticks) / real(evidence.tsc_khz()? * 1000))
}

/// So much work a second of the first guest's window. A piece of `batch` is 24,000 rounds of a loop, and each guest counts in a
/// second of its own; a server's window lasts until its last request is served.
fn per_second(evidence: &Evidence<'_>, done: u64) -> Result<f64, String> {
    Ok(real(done) / seconds(evidence)?)
}

fn ring(evidence: &Evidence<'_>) -> Result<f64, String> {
    let figure = evidence.first()?.figures.first().ok_or("no figure")?;
    Ok(real(evidence.tsc_khz()? * 1000) / real(figure.median.max(1)))
}

/// Exits of all guests in a second of the first one's window; none where it has no window.
fn exits(evidence: &Evidence<'_>) -> Option<f64> {
    let window = evidence.window_of_first().ok()?;
    Some(real(window.exits()) / seconds(evidence).ok()?)
}
