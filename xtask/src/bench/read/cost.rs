//! What a window cost, per unit of guest work and in all.

use super::Evidence;
use crate::bench::figure::Figure;
use crate::bench::window::{Window, real};
use hv_format::record::{ExitClass, GuestCounters};

/// Exits and hypervisor instructions per `unit`, of which `count` were done, with exits by reason, and the hypervisor's
/// share of the window.
pub fn per_unit(evidence: &Evidence<'_>, window: &Window, unit: &str, count: u64) -> Vec<Figure> {
    let each = |total: u64| real(total) / real(count.max(1));
    let mut figures = vec![
        evidence.single(&format!("exits_per_{unit}"), "exits", each(window.exits())),
        evidence.single(
            &format!("hv_instructions_per_{unit}"),
            "instructions",
            each(window.hypervisor_ticks()),
        ),
        share(evidence, window),
    ];
    figures.extend(by_reason(evidence, window, &format!("exits_per_{unit}"), "exits", real(count.max(1))));
    figures
}

/// Exits by reason, each divided by `per`, named after the `whole` that they add up to.
pub fn by_reason(evidence: &Evidence<'_>, window: &Window, whole: &str, unit: &str, per: f64) -> Vec<Figure> {
    parts(evidence, window.exits_by_class(), whole, unit, per)
}

/// The same of any exits.
pub fn parts(
    evidence: &Evidence<'_>,
    exits: [u64; ExitClass::COUNT],
    whole: &str,
    unit: &str,
    per: f64,
) -> Vec<Figure> {
    let classes = ExitClass::ALL.into_iter().zip(exits).filter(|(_, exits)| *exits > 0);
    let figure =
        |(class, exits)| evidence.single(&format!("{whole}.{}", name(class)), unit, real(exits) / per);
    classes.map(figure).collect()
}

/// The hypervisor's share of the window, which holds no cost of exits in hardware.
pub fn share(evidence: &Evidence<'_>, window: &Window) -> Figure {
    let share = real(window.hypervisor_ticks()) / real(window.ticks.max(1)) * 100.0;
    evidence.single("hv_share_percent", "% without hardware exit cost", share)
}

/// Jain's index of the CPU time that some guests of equal weight got: 1 when all got the same.
pub fn jain(evidence: &Evidence<'_>, guests: &[GuestCounters]) -> Option<Figure> {
    let times: Vec<f64> = guests.iter().map(|guest| real(guest.guest_ticks)).collect();
    let (sum, squares) =
        times.iter().fold((0.0, 0.0), |(sum, squares), time| (sum + time, squares + time * time));
    (times.len() > 1 && squares > 0.0)
        .then(|| evidence.single("jain", "index", sum * sum / (real(times.len() as u64) * squares)))
}

const fn name(class: ExitClass) -> &'static str {
    match class {
        ExitClass::Call => "call",
        ExitClass::Cpuid => "cpuid",
        ExitClass::Msr => "msr",
        ExitClass::Apic => "apic",
        ExitClass::Port => "port",
        ExitClass::Pit => "pit",
        ExitClass::Halt => "halt",
        ExitClass::Pause => "pause",
        ExitClass::Interrupt => "interrupt",
        ExitClass::Window => "window",
        ExitClass::Memory => "memory",
        ExitClass::Other => "other",
    }
}
