//! report.html: one file without scripts or anything from elsewhere, for light and dark screens.

mod charts;

use super::figure::{Figure, Hardware, Mode, readable, value};
use super::plot::escaped;
use super::report::Report;
use super::table::{is_first, ratio};
use super::target;

const STYLE: &str = include_str!("page/style.css");

/// What these figures are not.
const NOT_IN_THEM: &str = "The clock counts instructions. What an exit, a register write to a device or a world switch \
    costs on real hardware is not in these figures: each counts as one instruction here.";

/// Draws the page.
pub fn render(report: &Report) -> String {
    let machine = &report.machine;
    let versions: Vec<String> =
        machine.versions.iter().map(|(program, version)| format!("{program}: {version}")).collect();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Comity benchmark</title><style>\n{STYLE}</style></head><body>\n\
         <h1>Comity: what cooperation saves</h1>\n\
         <p>The same guest image bare, as a full guest, and as a cooperative guest.</p>\n\
         <p class=\"note\">{NOT_IN_THEM}</p>\n\
         <p class=\"machine\">{} · CPU {} · commit {} · {} windows<br>{}</p>\n",
        escaped(&machine.emulator),
        escaped(&machine.cpu),
        escaped(&machine.commit),
        escaped(&machine.windows),
        escaped(&versions.join(" · "))
    );
    page.push_str(&targets(&report.figures));
    page.push_str(&charts::all(&report.figures));
    page.push_str(&weights(&report.figures));
    page.push_str(&everything(&report.figures));
    page + "</body></html>\n"
}

fn targets(figures: &[Figure]) -> String {
    let verdicts = target::judge(figures);
    if verdicts.is_empty() {
        return String::new();
    }
    let met = verdicts.iter().filter(|verdict| verdict.met).count();
    let mut text = format!(
        "<h2>Targets: {met} of {} met</h2>\n<table><tr><th>figure</th><th>promise</th><th>found</th><th></th></tr>\n",
        verdicts.len()
    );
    for verdict in verdicts {
        let (class, word) = if verdict.met { ("met", "met") } else { ("missed", "missed") };
        text.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{word}</td></tr>\n",
            verdict.name,
            escaped(&verdict.promise),
            escaped(&verdict.found)
        ));
    }
    text + "</table>\n"
}

/// What each micro figure does that the clock shows as 1.
fn weights(figures: &[Figure]) -> String {
    let rows: Vec<(&Figure, Hardware)> =
        figures.iter().filter_map(|figure| Some((figure, figure.hardware?))).collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut text = "<h2>What one operation does that this clock counts as one instruction</h2>\n\
         <p>A world switch is VMRUN, VMLOAD and VMSAVE there and back; an FPU switch is one FXSAVE and one FXRSTOR; a timer \
         write is a store to the local APIC or an MSR. Per operation, from the hypervisor's own counters.</p>\n\
         <table><tr><th>figure</th><th>mode</th><th>instructions</th><th>world switches</th><th>FPU switches</th>\
         <th>timer writes</th></tr>\n"
        .to_owned();
    for (figure, Hardware { world_switches, fpu_switches, timer_arms }) in rows {
        text.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{world_switches:.2}</td>\
             <td class=\"n\">{fpu_switches:.2}</td><td class=\"n\">{timer_arms:.2}</td></tr>\n",
            figure.name,
            figure.mode.name(),
            readable(figure.value)
        ));
    }
    text + "</table>\n"
}

fn everything(figures: &[Figure]) -> String {
    let headings: String = Mode::columns(figures).map(|mode| format!("<th>{}</th>", mode.name())).collect();
    let mut text = format!(
        "<h2>All figures</h2>\n<table><tr><th>figure</th>{headings}\
         <th>full ÷ cooperative</th><th>unit</th></tr>\n"
    );
    for (at, figure) in figures.iter().enumerate() {
        if !is_first(figures, at) {
            continue;
        }
        text.push_str(&format!("<tr><td>{}</td>", figure.name));
        for mode in Mode::columns(figures) {
            let cell = value(figures, &figure.name, mode).map_or("–".into(), readable);
            text.push_str(&format!("<td class=\"n\">{cell}</td>"));
        }
        let ratio = ratio(figures, &figure.name).map_or("–".into(), |ratio| format!("{ratio:.2}"));
        text.push_str(&format!("<td class=\"n\">{ratio}</td><td>{}</td></tr>\n", escaped(&figure.unit)));
    }
    text + "</table>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::job::Length;

    #[test]
    fn the_page_stands_alone_and_says_what_is_not_in_its_figures() {
        let figures = [Mode::Full, Mode::Cooperative].map(|mode| Figure {
            hardware: Some(Hardware { world_switches: 1.0, fpu_switches: 0.0, timer_arms: 0.25 }),
            ..Figure::single("micro.cpuid".into(), mode, "instructions", 133.0)
        });
        let page = render(&Report::new(Length::Quick, figures.to_vec()));
        for wanted in [NOT_IN_THEM, "<svg", "prefers-color-scheme", "met</td>", "0.25", "quick windows"] {
            assert!(page.contains(wanted), "{wanted}");
        }
        for unwanted in ["http://", "https://", "<script", "<link", "src="] {
            assert!(!page.contains(unwanted), "{unwanted}");
        }
    }
}
