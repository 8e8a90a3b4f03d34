//! A figure: one number with a name, a mode and a unit.

use serde::{Deserialize, Serialize};

/// How the measured kernel ran. The order is that of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// On the emulated machine itself.
    Bare,
    /// As an ordinary PC under Comity.
    Full,
    /// As an ordinary PC that has KVM's interface: a kernel that knows it cooperates unchanged.
    Kvm,
    /// Aware of Comity.
    Cooperative,
    /// Guests of either kind, by turns.
    Mixed,
    /// Aware of Comity, on Intel's VMX as Bochs emulates it; the others are on AMD's SVM. Ticks of Bochs are instructions too.
    #[serde(rename = "cooperative-vmx")]
    CooperativeVmx,
}

impl Mode {
    /// In the order of the columns.
    pub const ALL: [Self; 6] =
        [Self::Bare, Self::Full, Self::Kvm, Self::Cooperative, Self::Mixed, Self::CooperativeVmx];

    /// The columns of these figures: guests with KVM's interface, mixed ones, and those on VMX, have one only where there are any.
    pub fn columns(figures: &[Figure]) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|mode| {
            let rare = matches!(mode, Self::Kvm | Self::Mixed | Self::CooperativeVmx);
            !rare || figures.iter().any(|figure| figure.mode == *mode)
        })
    }

    /// As in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Full => "full",
            Self::Kvm => "kvm",
            Self::Cooperative => "cooperative",
            Self::Mixed => "mixed",
            Self::CooperativeVmx => "cooperative-vmx",
        }
    }
}

/// One figure, as report.json has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// `SCENARIO.WHAT`.
    pub name: String,
    /// The column.
    pub mode: Mode,
    /// What `value` counts.
    pub unit: String,
    /// The median of samples, or the one value of a window.
    pub value: f64,
    /// The least sample; `value` where there is one value only.
    pub min: f64,
    /// Samples behind it.
    pub runs: u64,
    /// For micro figures: what one operation does that the instruction clock shows as 1 and a real processor does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Hardware>,
}

/// Operations that the instruction clock does not weigh, per operation measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    /// VMRUN to #VMEXIT and back, with VMSAVE and VMLOAD.
    pub world_switches: f64,
    /// FXSAVE and FXRSTOR pairs.
    pub fpu_switches: f64,
    /// Writes to the timer's register.
    pub timer_arms: f64,
}

impl Figure {
    /// A figure of one value.
    pub fn single(name: String, mode: Mode, unit: &str, value: f64) -> Self {
        Self { name, mode, unit: unit.into(), value, min: value, runs: 1, hardware: None }
    }

    /// A figure of some samples: their median; none of no sample.
    pub fn median(name: String, mode: Mode, unit: &str, mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let (least, median) = (*samples.first()?, *samples.get(samples.len() / 2)?);
        Some(Self { min: least, runs: samples.len() as u64, ..Self::single(name, mode, unit, median) })
    }
}

/// Figures in the order of `plan`, a name's modes together.
pub fn sorted(mut figures: Vec<Figure>) -> Vec<Figure> {
    let mut names: Vec<String> = Vec::new();
    for figure in &figures {
        if !names.contains(&figure.name) {
            names.push(figure.name.clone());
        }
    }
    let place = |figure: &Figure| names.iter().position(|name| *name == figure.name);
    figures.sort_by_key(|figure| (place(figure), figure.mode));
    figures
}

/// A figure's value.
pub fn value(figures: &[Figure], name: &str, mode: Mode) -> Option<f64> {
    figures.iter().find(|figure| figure.name == name && figure.mode == mode).map(|figure| figure.value)
}

/// A number as people read it: three places below 10, whole above 1000.
pub fn readable(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1000.0 || value.fract() == 0.0 {
        grouped(value)
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// With a comma every three digits.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_the_order_of_the_plan_and_modes_stand_together() {
        let figure = |name: &str, mode| Figure::single(name.into(), mode, "x", 1.0);
        let mixed = vec![figure("b", Mode::Cooperative), figure("a", Mode::Bare), figure("b", Mode::Full)];
        let order: Vec<_> = sorted(mixed).into_iter().map(|figure| (figure.name, figure.mode)).collect();
        assert_eq!(
            order,
            [("b".into(), Mode::Full), ("b".into(), Mode::Cooperative), ("a".into(), Mode::Bare)]
        );
    }

    #[test]
    fn numbers_are_short_enough_to_read() {
        let cases = [
            (152.0, "152"),
            (1_234_567.4, "1,234,567"),
            (0.125, "0.125"),
            (99.96, "100.0"),
            (-1500.0, "-1,500"),
        ];
        for (value, expected) in cases {
            assert_eq!(readable(value), expected, "{value}");
        }
    }
}
