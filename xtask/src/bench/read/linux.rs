//! Linux: exits of its boot and of its steady states, and work done.

use super::{Evidence, cost};
use crate::bench::figure::Figure;
use crate::bench::window::{BEGIN, END, USERSPACE, Window, real};
use hv_format::record::{ExitClass, GuestCounters, Record};

/// Port writes of a mark, which are the measurement's.
const PORT_WRITES_A_MARK: u64 = 2;
const NS_A_SECOND: f64 = 1e9;

/// Reads a boot from the kernel's entry to power-off, in which userspace is marked.
pub fn boot(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    let (began, mut counters) = ending(evidence)?;
    let userspace = mark_of(evidence, 0, USERSPACE).ok_or("userspace is not marked")?;
    let instructions = userspace.checked_sub(began).ok_or("userspace came before the kernel's entry")?;
    let port = &mut counters.exits[ExitClass::Port as usize];
    *port = port.saturating_sub(PORT_WRITES_A_MARK);
    // Calibration by the 8254 reads it for as long as it takes, whoever answers.
    let pit = std::mem::take(&mut counters.exits[ExitClass::Pit as usize]);
    let exits: u64 = counters.exits.iter().sum();
    let mut figures = vec![
        evidence.single("boot_exits", "exits", real(exits)),
        evidence.single("boot_pit_exits", "exits", real(pit)),
        evidence.single("boot_instructions", "instructions", real(instructions)),
        evidence.single("boot_hv_instructions", "instructions", real(counters.hv_ticks.iter().sum())),
    ];
    figures.extend(cost::parts(evidence, counters.exits, "boot_exits", "exits", 1.0));
    figures.extend(cost::parts(evidence, counters.hv_ticks, "boot_hv_instructions", "instructions", 1.0));
    Ok(figures)
}

/// Reads a window in which the one guest sleeps.
pub fn idle(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    let window = evidence.window()?.ok_or("not measured bare")?;
    Ok(exits_a_second(evidence, &window, "idle_exits_per_second"))
}

/// The same soon after its boot.
pub fn idle_early(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    let window = evidence.window()?.ok_or("not measured bare")?;
    Ok(exits_a_second(evidence, &window, "idle_early_exits_per_second"))
}

/// Reads a window in which the one guest spins, and what it did in it.
pub fn spin(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    let mut figures = vec![work(evidence, "spin_iterations", "iterations")?];
    if let Some(window) = evidence.window()? {
        figures.extend(exits_a_second(evidence, &window, "busy_exits_per_second"));
    }
    Ok(figures)
}

/// Reads how much was done of what kernels do for programs.
pub fn mix(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    Ok(vec![work(evidence, "mix_iterations", "rounds")?])
}

/// Reads the first guest's window, through all of which two spin.
pub fn two(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    together(evidence, "two_busy_exits_per_second")
}

/// The same with four.
pub fn four(evidence: &Evidence<'_>) -> Result<Vec<Figure>, String> {
    together(evidence, "four_busy_exits_per_second")
}

fn together(evidence: &Evidence<'_>, what: &str) -> Result<Vec<Figure>, String> {
    let window = evidence.window()?.ok_or("not measured bare")?;
    let begin_tsc = window.end_tsc - window.ticks;
    for (guest, _) in (0..).zip(evidence.said).skip(1) {
        let began = mark_of(evidence, guest, BEGIN).is_some_and(|tsc| tsc < begin_tsc);
        let ended = mark_of(evidence, guest, END).is_some_and(|tsc| tsc < window.end_tsc);
        if !began || ended {
            return Err(format!("guest {guest} did not spin through the whole window"));
        }
    }
    let mut figures = exits_a_second(evidence, &window, what);
    figures.extend(cost::jain(evidence, &window.guests).map(|jain| {
        let name = evidence.name(&what.replace("exits_per_second", "jain"));
        Figure { name, ..jain }
    }));
    Ok(figures)
}

fn exits_a_second(evidence: &Evidence<'_>, window: &Window, what: &str) -> Vec<Figure> {
    let mut figures = vec![evidence.single(what, "exits/s", real(window.exits()) / window.seconds())];
    figures.extend(cost::by_reason(evidence, window, what, "exits/s", window.seconds()));
    figures
}

/// Work in one second of the guest's clock; what is said took a little longer.
fn work(evidence: &Evidence<'_>, what: &str, key: &str) -> Result<Figure, String> {
    let said = evidence.first()?;
    let (done, ns) = (real(said.value(key)?), real(said.value("ns")?));
    Ok(evidence.single(what, "in a second", done * NS_A_SECOND / ns))
}

/// When a guest set a mark.
fn mark_of(evidence: &Evidence<'_>, of: u16, wanted: u64) -> Option<u64> {
    evidence.records.iter().find_map(|record| match record {
        Record::Mark { guest, id, tsc, .. } => (guest.0 == of && *id == wanted).then_some(*tsc),
        Record::Boot { .. } | Record::Clock { .. } | Record::Ended { .. } | Record::Lost { .. } => None,
    })
}

/// When the first guest was started, and what it had caused when it ended.
fn ending(evidence: &Evidence<'_>) -> Result<(u64, GuestCounters), String> {
    let ended = evidence.records.iter().find_map(|record| match record {
        Record::Ended { guest, began, counters, .. } => (guest.0 == 0).then(|| (*began, counters.clone())),
        Record::Boot { .. } | Record::Clock { .. } | Record::Mark { .. } | Record::Lost { .. } => None,
    });
    ended.ok_or_else(|| "no end in the telemetry".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figure::Mode;
    use crate::bench::says::Said;
    use hv_format::id::{GuestId, VcpuIndex};
    use hv_format::record::Ending;
    use std::time::Duration;

    fn mark(guest: u16, id: u64, tsc: u64) -> Record {
        let (guest, vcpu) = (GuestId(guest), VcpuIndex(0));
        let guests = vec![GuestCounters { guest_ticks: tsc, ..GuestCounters::default() }; 2];
        Record::Mark { guest, vcpu, id, value: 0, tsc, cpus: Vec::new(), guests }
    }

    fn evidence<'a>(said: &'a [Said], records: &'a [Record]) -> Evidence<'a> {
        Evidence { prefix: "linux", mode: Mode::Kvm, said, records, wall: Duration::ZERO }
    }

    #[test]
    fn a_boot_is_counted_without_the_8254_and_without_its_mark() {
        let mut counters = GuestCounters::default();
        counters.exits[ExitClass::Port as usize] = 12;
        counters.exits[ExitClass::Cpuid as usize] = 5;
        counters.exits[ExitClass::Pit as usize] = 1000;
        let ended = Record::Ended { guest: GuestId(0), ending: Ending::Off, began: 100, tsc: 900, counters };
        let records = [mark(0, USERSPACE, 700), ended];
        let figures = boot(&evidence(&[], &records)).unwrap();
        let of = |name: &str| figures.iter().find(|figure| figure.name == name).map(|figure| figure.value);
        assert_eq!(of("linux.boot_exits"), Some(15.0));
        assert_eq!(of("linux.boot_exits.port"), Some(10.0));
        assert_eq!(of("linux.boot_exits.pit"), None);
        assert_eq!(of("linux.boot_pit_exits"), Some(1000.0));
        assert_eq!(of("linux.boot_instructions"), Some(600.0));
    }

    #[test]
    fn a_guest_that_began_late_or_ended_early_spoils_the_window_of_two() {
        let said = [Said::default(), Said::default()];
        let run = |begin, end| {
            let records = [mark(1, BEGIN, begin), mark(0, BEGIN, 100), mark(0, END, 200), mark(1, END, end)];
            two(&evidence(&said, &records)).is_ok()
        };
        assert!(run(50, 300));
        assert!(!run(150, 300), "began late");
        assert!(!run(50, 150), "ended early");
    }
}
