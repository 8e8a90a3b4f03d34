//! What the design promises of the figures, and whether it is kept.

use super::figure::{Figure, Mode, readable, value};
use super::table::ratio;

/// A bound on one number.
enum Bound {
    /// The cooperative value is at most this.
    AtMost(f64),
    /// The cooperative value is at least this.
    AtLeast(f64),
    /// Full / cooperative is at least this.
    Saves(f64),
    /// The cooperative value is not above the full one.
    NoWorse,
    /// The cooperative value on VMX is at most so many times that on SVM.
    Vmx(f64),
    /// The cooperative value is within so many percent of another figure's.
    Near(&'static str, f64),
}

use Bound::{AtLeast, AtMost, Near, NoWorse, Saves, Vmx};

/// Names and bounds, as the issues that built the benchmark give them. A figure of mixed guests stands for cooperative ones.
const TARGETS: &[(&str, Bound)] = &[
    ("micro.null_call", AtMost(150.0)),
    ("micro.cpuid", AtMost(200.0)),
    ("micro.null_call", Vmx(1.5)),
    ("micro.cpuid", Vmx(1.5)),
    ("micro.yield_switch_2", AtMost(500.0)),
    ("micro.yield_switch_256", AtMost(750.0)),
    ("server_5.exits_per_request", Saves(2.0)),
    ("server_15.exits_per_request", Saves(2.0)),
    ("server_22.exits_per_request", Saves(2.0)),
    ("server_80.exits_per_request", Saves(5.0)),
    ("server_5.hv_instructions_per_request", Saves(1.5)),
    ("server_15.hv_instructions_per_request", Saves(1.5)),
    ("server_22.hv_instructions_per_request", Saves(1.5)),
    ("server_80.hv_instructions_per_request", Saves(3.0)),
    ("server_5.p99_us", NoWorse),
    ("server_15.p99_us", NoWorse),
    ("server_22.p99_us", NoWorse),
    ("server_80.p99_us", NoWorse),
    ("idle.exits_per_second", AtMost(0.0)),
    ("lone_busy.exits_per_second", AtMost(0.0)),
    ("locks_2.ideal_percent", AtLeast(99.0)),
    ("locks_20.ideal_percent", AtLeast(99.0)),
    ("locks_200.ideal_percent", AtLeast(99.0)),
    ("locks_2.holders_preempted", AtMost(0.0)),
    ("locks_20.holders_preempted", AtMost(0.0)),
    ("locks_200.holders_preempted", AtMost(0.0)),
    ("spinners.of_bare", AtLeast(0.95)),
    ("spinners.exits", AtMost(0.0)),
    ("spinners.kicks", AtMost(0.0)),
    ("entitlement.worst_error_percent", AtMost(1.0)),
    ("entitlement.clipped_worst_error_percent", AtMost(1.0)),
    ("idle_1024.exits_per_second", AtMost(0.0)),
    ("crossing.wake_beside_1022", Near("crossing.wake_beside_2", 10.0)),
];

/// What is promised of Linux, by mode: better than KVM nested on the same emulator.
const LINUX: &[(&str, Mode, Bound)] = &[
    ("linux.boot_exits", Mode::Kvm, AtMost(3_700.0)),
    ("linux.boot_exits", Mode::Full, AtMost(7_365.0)),
    ("linux.boot_instructions_of_bare", Mode::Kvm, AtMost(1.03)),
    ("linux.boot_instructions_of_bare", Mode::Full, AtMost(1.15)),
    ("linux.boot_wall_ratio", Mode::Full, AtMost(2.5)),
    ("linux.idle_exits_per_second", Mode::Kvm, AtMost(26.0)),
    ("linux.busy_exits_per_second", Mode::Kvm, AtMost(550.0)),
    ("linux.spin_of_bare", Mode::Kvm, AtLeast(0.985)),
    ("linux.mix_of_bare", Mode::Kvm, AtLeast(0.97)),
];

/// A target and how the figures stand to it.
pub struct Verdict {
    /// The figure, with its mode where that is not the cooperative one.
    pub name: String,
    /// What is promised.
    pub promise: String,
    /// What is so.
    pub found: String,
    /// Whether it is kept.
    pub met: bool,
}

/// Judges every target whose figures are there.
pub fn judge(figures: &[Figure]) -> Vec<Verdict> {
    let ours = TARGETS.iter().filter_map(|(name, bound)| judge_one(figures, name, bound));
    let linux = LINUX.iter().filter_map(|(name, mode, bound)| {
        let verdict = judge_value(figures, name, value(figures, name, *mode), bound)?;
        Some(Verdict { name: format!("{name} {}", mode.name()), ..verdict })
    });
    ours.chain(linux).collect()
}

/// Judges a cooperative guest's figure, or that of mixed guests.
fn judge_one(figures: &[Figure], name: &str, bound: &Bound) -> Option<Verdict> {
    let mixed = || value(figures, name, Mode::Mixed);
    judge_value(figures, name, value(figures, name, Mode::Cooperative).or_else(mixed), bound)
}

fn judge_value(figures: &[Figure], name: &str, measured: Option<f64>, bound: &Bound) -> Option<Verdict> {
    let scenario = name.split('.').next().unwrap_or(name);
    let was_booted = figures.iter().any(|figure| figure.name.split('.').next() == Some(scenario));
    let missing = || Verdict {
        name: name.into(),
        promise: "to be measured".into(),
        found: "not measured in both modes".into(),
        met: false,
    };
    let Some(cooperative) = measured else { return was_booted.then(missing) };
    let (promise, found, met) = match bound {
        AtMost(most) => (format!("at most {}", readable(*most)), readable(cooperative), cooperative <= *most),
        AtLeast(least) => {
            (format!("at least {}", readable(*least)), readable(cooperative), cooperative >= *least)
        }
        Saves(times) => {
            let Some(full) = value(figures, name, Mode::Full) else { return Some(missing()) };
            let ratio = ratio(figures, name);
            let found = ratio.map_or("no end".into(), |ratio| format!("{ratio:.2} times"));
            (format!("at least {times} times fewer than full"), found, full >= cooperative * times)
        }
        NoWorse => {
            let Some(full) = value(figures, name, Mode::Full) else { return Some(missing()) };
            let found = format!("{} against {}", readable(cooperative), readable(full));
            ("no more than full".into(), found, cooperative <= full)
        }
        Vmx(times) => {
            // Measured by `--all` only.
            let vmx = value(figures, name, Mode::CooperativeVmx)?;
            let found = format!("{:.2} times", vmx / cooperative);
            (format!("on VMX at most {times} times SVM"), found, vmx <= cooperative * times)
        }
        Near(other, percent) => {
            let Some(other_value) = value(figures, other, Mode::Cooperative) else { return Some(missing()) };
            let apart = (cooperative / other_value - 1.0).abs() * 100.0;
            (format!("within {percent} % of {other}"), format!("{apart:.1} %"), apart <= *percent)
        }
    };
    Some(Verdict { name: name.into(), promise, found, met })
}

/// A line a target.
pub fn render(figures: &[Figure]) -> String {
    let verdicts = judge(figures);
    let met = verdicts.iter().filter(|verdict| verdict.met).count();
    let mut text = format!("targets: {met} of {} met\n", verdicts.len());
    for Verdict { name, promise, found, met } in &verdicts {
        let word = if *met { "met   " } else { "MISSED" };
        text.push_str(&format!("{word} {name}: {promise}; {found}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_judged_on_its_edge() {
        let judge = |bound: Bound, full: f64, cooperative: f64| {
            let figures = [(Mode::Full, full), (Mode::Cooperative, cooperative)]
                .map(|(mode, value)| Figure::single("x".into(), mode, "u", value));
            judge_one(&figures, "x", &bound).map(|verdict| verdict.met)
        };
        assert_eq!(judge(AtMost(150.0), 0.0, 150.0), Some(true));
        assert_eq!(judge(AtMost(150.0), 0.0, 151.0), Some(false));
        assert_eq!(judge(AtLeast(99.0), 0.0, 98.9), Some(false));
        assert_eq!(judge(Saves(2.0), 10.0, 5.0), Some(true));
        assert_eq!(judge(Saves(2.0), 10.0, 5.1), Some(false));
        assert_eq!(judge(Saves(2.0), 10.0, 0.0), Some(true), "nothing at all is fewer");
        assert_eq!(judge(NoWorse, 10.0, 10.0), Some(true));
        assert_eq!(judge(NoWorse, 10.0, 11.0), Some(false));
        assert!(
            judge_one(&[], "x", &AtMost(1.0)).is_none(),
            "a scenario that was not asked for is not judged"
        );
        let linux = |mode, value| Figure::single("linux.boot_exits".into(), mode, "exits", value);
        let verdicts = super::judge(&[linux(Mode::Kvm, 3_701.0), linux(Mode::Full, 3_701.0)]);
        let of = |name: &str| verdicts.iter().find(|verdict| verdict.name == name).map(|verdict| verdict.met);
        assert_eq!(of("linux.boot_exits kvm"), Some(false));
        assert_eq!(of("linux.boot_exits full"), Some(true), "each mode has its own bound");
        let half = [Figure::single("x.y".into(), Mode::Full, "u", 1.0)];
        let verdict = judge_one(&half, "x.y", &Saves(2.0)).unwrap();
        assert!(!verdict.met, "a machine that failed does not hide its target");
    }
}
