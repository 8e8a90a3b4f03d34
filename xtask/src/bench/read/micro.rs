//! Micro figures: as the guest printed them, with the operations that the instruction clock does not weigh.

use super::Evidence;
use crate::bench::figure::{Figure, Hardware, Mode};
use crate::bench::says::Sampled;
use crate::bench::window::{Window, real};

/// The guest marks its n-th figure with this and n: value 0 before it, 1 after it.
const MARK_FIRST: u64 = 0x100;
/// The guest's figures in the order of its marks (`guest-kernel-shim/src/bin/bench/micro.rs`).
const MARKED: [&str; 15] = [
    "null_call",
    "cpuid",
    "eoi",
    "yield_alone",
    "console_64",
    "timer_rearm_later",
    "timer_rearm_earlier",
    "timer_expiry",
    "ring_message",
    "block_wake",
    "ipi_halted",
    "ipi_running",
    "yield_switch",
    "shootdown_running",
    "shootdown_idle",
];

/// Reads them.
pub fn read(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    let figures: Vec<Figure> = evidence
        .first()?
        .figures
        .iter()
        // Under a hypervisor the ring is measured between two guests; one guest alone talks to itself.
        .filter(|sampled| {
            sampled.name != "ring_message" || evidence.mode == Mode::Bare || evidence.said.len() > 1
        })
        .map(|sampled| figure(evidence, sampled))
        .collect();
    if figures.is_empty() { Err("no figure".into()) } else { Ok(figures) }
}

fn figure(evidence: &Evidence<'_>, sampled: &Sampled) -> Figure {
    Figure {
        name: evidence.name(&sampled.name),
        mode: evidence.mode,
        unit: sampled.unit.clone(),
        value: real(sampled.median),
        min: real(sampled.min),
        runs: sampled.runs,
        hardware: hardware(evidence, sampled),
    }
}

/// What one operation did, from the counters around all of them.
fn hardware(evidence: &Evidence<'_>, sampled: &Sampled) -> Option<Hardware> {
    let window = window(evidence, sampled)?;
    let each = |count: u64| real(count) / real(sampled.operations.max(1));
    Some(Hardware {
        world_switches: each(window.exits()),
        fpu_switches: each(window.switches()),
        timer_arms: each(window.cpu.timer_arms),
    })
}

/// What happened around all operations of a figure.
pub fn window(evidence: &Evidence<'_>, sampled: &Sampled) -> Option<Window> {
    let at = MARKED.iter().position(|name| sampled.name.starts_with(name))?;
    let id = MARK_FIRST + at as u64;
    Window::find(evidence.records, 0, (id, Some(0)), (id, Some(1)))
}
