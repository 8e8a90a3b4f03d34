//! What guests get of two processors: all of one each where two are alone, and their shares where three compete.

use super::{All, RUNS};
use crate::bench::figure::Mode;
use crate::bench::job::Clock;
use crate::bench::read::Evidence;
use crate::bench::window::real;

/// Two guests that compute, each on its processor, against a bare kernel that computes on two.
pub fn spinners(all: &mut All) {
    let machine = |mode| ("smp_spinners", mode, Clock::Host, Some(2));
    let rounds = |evidence: &Evidence<'_>| {
        evidence.said.iter().map(|said| said.value("rounds")).sum::<Result<u64, String>>().map(real)
    };
    for mode in [Mode::Full, Mode::Cooperative] {
        let run = |_| {
            let bare = all.once(machine(Mode::Bare), rounds)?;
            all.once(machine(mode), |evidence| {
                let window = evidence.window_of_first()?;
                Ok((rounds(evidence)? / bare, real(window.exits()), real(window.cpu.kicks)))
            })
        };
        let runs: Result<Vec<(f64, f64, f64)>, String> = (0..RUNS).map(run).collect();
        let of = |part: fn(&(f64, f64, f64)) -> f64| runs.clone().map(|runs| runs.iter().map(part).collect());
        let (work, exits, kicks) = (of(|run| run.0), of(|run| run.1), of(|run| run.2));
        all.keep("spinners.of_bare", mode, "of two bare spin loops", work);
        all.keep("spinners.exits", mode, "exits in a second", exits);
        all.keep("spinners.kicks", mode, "kicks in a second", kicks);
    }
}

/// Guests with weights 4 : 2 : 1 on two processors, of either kind.
pub fn entitlement(all: &mut All) {
    for (name, vcpus, due) in [
        ("entitlement.worst_error_percent", 2, [4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0]),
        ("entitlement.clipped_worst_error_percent", 1, [3.0 / 6.0, 2.0 / 6.0, 1.0 / 6.0]),
    ] {
        let file = format!("smp_entitlement_{vcpus}");
        let run = |_| {
            all.once((&file, Mode::Mixed, Clock::Host, None), |evidence| {
                let window = evidence.window_of_first()?;
                // Time in the hypervisor is its guest's: under a translator a switch takes some 50 µs.
                let used = |guest: &hv_format::record::GuestCounters| {
                    real(guest.guest_ticks + guest.hv_ticks.iter().sum::<u64>())
                };
                let used: Vec<f64> = window.guests.iter().map(used).collect();
                let all: f64 = used.iter().sum();
                Ok(used.iter().zip(due).map(|(used, due)| used / all / due).collect::<Vec<f64>>())
            })
        };
        let runs: Result<Vec<Vec<f64>>, String> = (0..RUNS).map(run).collect();
        // Each guest's median first: the host's own scheduling disturbs this run and that.
        let worst = runs.map(|runs| {
            let median = |guest: usize| {
                let mut shares: Vec<f64> = runs.iter().filter_map(|run| run.get(guest).copied()).collect();
                shares.sort_by(f64::total_cmp);
                shares.get(shares.len() / 2).copied().unwrap_or(0.0)
            };
            vec![(0..due.len()).map(|guest| (median(guest) - 1.0).abs() * 100.0).fold(0.0, f64::max)]
        });
        all.keep(name, Mode::Mixed, "% of the share", worst);
    }
}
