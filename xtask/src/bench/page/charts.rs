//! Which charts the page has. A chart whose figures were not measured is left out.

use crate::bench::figure::{Figure, Mode, value};
use crate::bench::plot::{Bar, Chart, Group, Part, Scale, escaped};
use crate::bench::table::{is_first, is_part};

const SERVERS: [(&str, &str); 4] =
    [("server_5", "5 %"), ("server_15", "15 %"), ("server_22", "22 %"), ("server_80", "80 %, 85 % due")];
const LOCKS: [(&str, &str); 3] = [("locks_2", "2 µs"), ("locks_20", "20 µs"), ("locks_200", "200 µs")];
const LINUX_EXITS: [(&str, &str); 5] = [
    ("idle_exits_per_second", "idle, for long"),
    ("idle_early_exits_per_second", "idle, first second"),
    ("busy_exits_per_second", "one busy"),
    ("two_busy_exits_per_second", "two busy"),
    ("four_busy_exits_per_second", "four busy"),
];
const LINUX_BOOT: [(&str, &str); 2] =
    [("boot_exits", "all but the 8254's"), ("boot_pit_exits", "of the 8254")];
const LINUX_OF_BARE: [(&str, &str); 4] = [
    ("boot_instructions_of_bare", "boot, instructions"),
    ("boot_wall_ratio", "boot, time of the host"),
    ("spin_of_bare", "spinning, work done"),
    ("mix_of_bare", "a mix, work done"),
];
/// Colour classes of the modes; reasons of exits come after them.
const FIRST_REASON: usize = 3;

/// Every chart, under headings.
pub fn all(figures: &[Figure]) -> String {
    let mut text = section("Single operations", "", vec![micro(figures)]);
    text.push_str(&section(
        "A server beside three batch guests",
        "Requests arrive as a Poisson process from the server's own timer and take 20 µs each, waiting not included. The \
         load is the share of the processor that they need. Bare, the server has the machine to itself.",
        vec![
            by_case(figures, &SERVERS, "p99_us", "99th percentile from arrival to done, µs", Scale::Log),
            by_case(figures, &SERVERS, "p50_us", "median from arrival to done, µs", Scale::Log),
            by_reason(figures, &SERVERS, "exits_per_request", "exits of all guests per request, by reason"),
            by_case(
                figures,
                &SERVERS,
                "hv_instructions_per_request",
                "hypervisor instructions per request, without hardware exit cost",
                Scale::Linear,
            ),
        ],
    ));
    text.push_str(&section(
        "Critical sections beside three batch guests",
        "Four vCPUs on one processor take the same lock for 2, 20 or 200 µs and think four times as long between.",
        vec![
            by_case(figures, &LOCKS, "ideal_percent", "useful work, % of the CPU time the guest got", Scale::Linear),
            by_case(figures, &LOCKS, "holders_preempted", "sections whose holder lost the CPU", Scale::Linear),
            by_case(
                figures,
                &LOCKS,
                "hv_instructions_per_section",
                "hypervisor instructions per section, without hardware exit cost",
                Scale::Log,
            ),
        ],
    ));
    text.push_str(&section(
        "A tick, a message",
        "A 1 kHz timer beside work; a record from guest to guest and back.",
        vec![by_reason(
            figures,
            &[("tick", "per tick"), ("pipe", "per message")],
            "",
            "exits per unit of work, by reason",
        )],
    ));
    text.push_str(&section(
        "A stock Debian Linux",
        "The same kernel and initial RAM disk with nothing beneath it, in full mode, and in kvm mode, where it finds KVM's interface. \
         An exit of the 8254 is one that calibrates the clock.",
        vec![
            linux(figures, &LINUX_EXITS, "exits a second", Scale::Linear),
            linux(figures, &LINUX_BOOT, "exits of a boot", Scale::Log),
            linux(figures, &LINUX_OF_BARE, "times bare", Scale::Linear),
        ],
    ));
    text
}

fn section(heading: &str, words: &str, charts: Vec<Option<Chart>>) -> String {
    let drawn: Vec<Chart> = charts.into_iter().flatten().collect();
    if drawn.is_empty() {
        return String::new();
    }
    let mut text = format!("<h2>{heading}</h2>\n");
    if !words.is_empty() {
        text.push_str(&format!("<p>{words}</p>\n"));
    }
    for chart in drawn {
        text.push_str(&format!("<h3>{}</h3>\n{}", escaped(&chart.title), chart.svg()));
    }
    text
}

fn legend() -> Vec<(usize, String)> {
    Mode::columns(&[]).map(|mode| (colour(mode), mode.name().to_owned())).collect()
}

const fn colour(mode: Mode) -> usize {
    match mode {
        Mode::Bare => 0,
        Mode::Full => 1,
        Mode::Cooperative => 2,
        Mode::Mixed => 3,
        Mode::CooperativeVmx => 4,
        Mode::Kvm => 5,
    }
}

/// A group of up to three bars: one a mode.
fn group(figures: &[Figure], name: &str, label: &str) -> Option<Group> {
    let bar = |mode: Mode| {
        let value = value(figures, name, mode)?;
        Some(Bar { parts: vec![Part { colour: colour(mode), value }], name: mode.name().into() })
    };
    let bars: Vec<Bar> = Mode::ALL.into_iter().filter_map(bar).collect();
    (!bars.is_empty()).then(|| Group { label: label.into(), bars })
}

fn chart(title: &str, scale: Scale, groups: Vec<Group>, legend: Vec<(usize, String)>) -> Option<Chart> {
    let axis = if scale == Scale::Log { format!("{title} (logarithmic)") } else { title.to_owned() };
    (!groups.is_empty()).then(|| Chart { title: title.into(), axis, scale, groups, legend })
}

fn micro(figures: &[Figure]) -> Option<Chart> {
    let first = |(at, figure): (usize, &Figure)| {
        let short = figure.name.strip_prefix("micro.").filter(|_| is_first(figures, at))?;
        group(figures, &figure.name, short)
    };
    chart(
        "instructions per operation, median",
        Scale::Log,
        figures.iter().enumerate().filter_map(first).collect(),
        legend(),
    )
}

fn by_case(
    figures: &[Figure],
    cases: &[(&str, &str)],
    what: &str,
    title: &str,
    scale: Scale,
) -> Option<Chart> {
    let groups =
        cases.iter().filter_map(|(prefix, label)| group(figures, &format!("{prefix}.{what}"), label));
    chart(title, scale, groups.collect(), legend())
}

fn linux(figures: &[Figure], cases: &[(&str, &str)], title: &str, scale: Scale) -> Option<Chart> {
    let groups = cases.iter().filter_map(|(what, label)| group(figures, &format!("linux.{what}"), label));
    let legend = [Mode::Full, Mode::Kvm].map(|mode| (colour(mode), mode.name().to_owned()));
    chart(title, scale, groups.collect(), legend.into())
}

/// A bar a mode, made of the exits by reason; an empty `what` takes whichever sum has parts.
fn by_reason(figures: &[Figure], cases: &[(&str, &str)], what: &str, title: &str) -> Option<Chart> {
    let mut reasons: Vec<String> = Vec::new();
    let mut groups = Vec::new();
    for (prefix, label) in cases {
        let mut bars = Vec::new();
        for mode in [Mode::Full, Mode::Cooperative] {
            let wanted = format!("{prefix}.{what}");
            let parts = figures.iter().filter(|figure| {
                figure.mode == mode && is_part(&figure.name) && figure.name.starts_with(&wanted)
            });
            let mut bar = Vec::new();
            for part in parts {
                let reason = part.name.rsplit('.').next().unwrap_or_default().to_owned();
                let known = reasons.iter().position(|known| *known == reason);
                let at = known.unwrap_or_else(|| {
                    reasons.push(reason);
                    reasons.len() - 1
                });
                bar.push(Part { colour: FIRST_REASON + at, value: part.value });
            }
            if !bar.is_empty() {
                bars.push(Bar { parts: bar, name: mode.name().into() });
            }
        }
        if !bars.is_empty() {
            groups.push(Group { label: format!("{label}: full, coop."), bars });
        }
    }
    let legend = reasons.into_iter().enumerate().map(|(at, reason)| (FIRST_REASON + at, reason)).collect();
    chart(title, Scale::Linear, groups, legend)
}
