//! What one processor does to another: wakes, shoot-downs, migrations.

use super::{All, RUNS};
use crate::bench::figure::Mode;
use crate::bench::job::Clock;
use crate::bench::read::{Evidence, micro};
use crate::bench::window::real;

/// Measures all of them.
pub fn measure(all: &mut All) {
    wakes(all);
    shootdowns(all);
    migrations(all);
}

/// Ticks of the host's clock as µs.
fn us(evidence: &Evidence<'_>, ticks: f64) -> Result<f64, String> {
    Ok(ticks * 1000.0 / real(evidence.tsc_khz()?))
}

/// A wake across processors in the host's time, and one on its processor beside 1,022 idle vCPUs and beside 2, in instructions.
fn wakes(all: &mut All) {
    let median = |evidence: &Evidence<'_>| {
        let figure = evidence.first()?.figures.first().ok_or("no figure")?;
        Ok(real(figure.median))
    };
    for mode in [Mode::Full, Mode::Cooperative] {
        let samples = (0..RUNS).map(|_| {
            all.once(("smp_wake", mode, Clock::Host, None), |evidence| us(evidence, median(evidence)?))
        });
        let samples = samples.collect();
        all.keep("crossing.wake_us", mode, "µs of the host", samples);
        for (name, file) in [("wake_beside_2", "wake_4"), ("wake_beside_1022", "wake_1024")] {
            let sample = all.once((file, mode, Clock::Counted, None), median);
            all.keep(&format!("crossing.{name}"), mode, "instructions", sample.map(|value| vec![value]));
        }
    }
}

/// From giving four blocks back until they are gone, and interrupts that this took: with the guest's other vCPU on CPU, and
/// asleep. Only a cooperative guest gives memory back.
fn shootdowns(all: &mut All) {
    let run = |_| {
        all.once(("smp_shootdown", Mode::Cooperative, Clock::Host, None), |evidence| {
            let figures = &evidence.first()?.figures;
            let of = |name: &str| {
                let sampled = figures.iter().find(|figure| figure.name == name).ok_or("no shoot-down")?;
                let window = micro::window(evidence, sampled).ok_or("no marks around the shoot-downs")?;
                let kicks = real(window.cpu.kicks) / real(sampled.operations.max(1));
                Ok::<_, String>([us(evidence, real(sampled.median))?, kicks])
            };
            Ok([of("shootdown_running")?, of("shootdown_idle")?])
        })
    };
    let runs: Result<Vec<[[f64; 2]; 2]>, String> = (0..RUNS).map(run).collect();
    for (case, name) in ["shootdown", "shootdown_idle"].into_iter().enumerate() {
        for (part, (suffix, unit)) in
            [("_us", "µs of the host"), ("_kicks", "interrupts")].into_iter().enumerate()
        {
            let values = runs.clone().map(|runs| runs.iter().map(|run| run[case][part]).collect());
            all.keep(&format!("crossing.{name}{suffix}"), Mode::Cooperative, unit, values);
        }
    }
}

/// The hypervisor's work on both processors for a vCPU that moves, and how often one moves whose processor is busy by turns.
fn migrations(all: &mut All) {
    for mode in [Mode::Full, Mode::Cooperative] {
        let run = |_| {
            all.once(("smp_migrate", mode, Clock::Host, None), |evidence| {
                let window = evidence.window_of_first()?;
                let moves: u64 = window.guests.iter().map(|guest| guest.migrations).sum();
                if moves == 0 {
                    return Err("no vCPU moved".into());
                }
                Ok([
                    us(evidence, real(window.cpu.move_ticks) / real(moves))?,
                    real(moves) / real(window.ticks) * real(evidence.tsc_khz()?) * 1000.0,
                ])
            })
        };
        let runs: Result<Vec<[f64; 2]>, String> = (0..RUNS).map(run).collect();
        for (part, (name, unit)) in
            [("migration_us", "µs of the host"), ("migrations_per_second", "migrations/s")]
                .into_iter()
                .enumerate()
        {
            let values = runs.clone().map(|runs| runs.iter().map(|run| run[part]).collect());
            all.keep(&format!("crossing.{name}"), mode, unit, values);
        }
    }
}
