//! Bar charts in SVG: horizontal bars in groups, each bar of one part or several, on a linear or a logarithmic axis.
//!
//! Colours are classes, `c0` … `c11`, that the page's style sheet gives for light and dark.

use super::figure::readable;

/// How values become lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0.
    Linear,
    /// From 1, by decades; what is below has no length.
    Log,
}

/// A piece of a bar.
pub struct Part {
    /// Its colour class.
    pub colour: usize,
    /// Its value.
    pub value: f64,
}

/// A bar.
pub struct Bar {
    /// What stands together in it.
    pub parts: Vec<Part>,
    /// For whom it stands: shown to who points at it.
    pub name: String,
}

/// Bars with one label.
pub struct Group {
    /// At the left.
    pub label: String,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// A chart.
pub struct Chart {
    /// What is shown, for those who cannot see it.
    pub title: String,
    /// What the axis counts, with its unit.
    pub axis: String,
    /// How long things are.
    pub scale: Scale,
    /// From top to bottom.
    pub groups: Vec<Group>,
    /// Colour classes and what they stand for.
    pub legend: Vec<(usize, String)>,
}

const WIDTH: f64 = 760.0;
/// Where bars begin.
const LEFT: f64 = 190.0;
/// Room for the longest bar's number.
const RIGHT: f64 = 80.0;
const BAR: f64 = 14.0;
const BETWEEN_BARS: f64 = 2.0;
const BETWEEN_GROUPS: f64 = 12.0;
const LEGEND: f64 = 26.0;
const AXIS: f64 = 44.0;
/// Most lines of a linear axis.
const MOST_TICKS: f64 = 6.0;

impl Bar {
    fn total(&self) -> f64 {
        self.parts.iter().map(|part| part.value).sum()
    }
}

impl Chart {
    /// Draws it.
    pub fn svg(&self) -> String {
        let most = self.groups.iter().flat_map(|group| &group.bars).map(Bar::total).fold(0.0, f64::max);
        let axis = Axis::new(self.scale, most);
        let heights: Vec<f64> = self
            .groups
            .iter()
            .map(|group| as_f64(group.bars.len()) * (BAR + BETWEEN_BARS) + BETWEEN_GROUPS)
            .collect();
        let bottom = LEGEND + heights.iter().sum::<f64>();
        let height = bottom + AXIS;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">\n",
            escaped(&self.title)
        );
        self.draw_legend(&mut svg);
        for tick in axis.ticks() {
            let x = LEFT + axis.length(tick);
            svg.push_str(&format!(
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{LEGEND}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>\n",
                bottom + 15.0,
                readable(tick)
            ));
        }
        svg.push_str(&format!(
            "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
            LEFT + axis.room / 2.0,
            bottom + 34.0,
            escaped(&self.axis)
        ));
        let mut top = LEGEND + BETWEEN_GROUPS / 2.0;
        for (group, height) in self.groups.iter().zip(heights) {
            group.draw(&mut svg, &axis, top, height - BETWEEN_GROUPS);
            top += height;
        }
        svg + "</svg>\n"
    }

    fn draw_legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for (colour, name) in &self.legend {
            svg.push_str(&format!(
                "<rect class=\"c{colour}\" x=\"{x:.0}\" y=\"4\" width=\"12\" height=\"12\"/>\
                 <text x=\"{:.0}\" y=\"14\">{}</text>\n",
                x + 16.0,
                escaped(name)
            ));
            x += 30.0 + 7.2 * as_f64(name.chars().count());
        }
    }
}

impl Group {
    fn draw(&self, svg: &mut String, axis: &Axis, top: f64, height: f64) {
        svg.push_str(&format!(
            "<text class=\"label\" x=\"{:.0}\" y=\"{:.1}\">{}</text>\n",
            LEFT - 8.0,
            top + height / 2.0 + 4.0,
            escaped(&self.label)
        ));
        let mut y = top;
        for bar in &self.bars {
            let mut sum = 0.0;
            svg.push_str(&format!("<g><title>{}: {}</title>", escaped(&bar.name), readable(bar.total())));
            for part in &bar.parts {
                let from = axis.length(sum);
                sum += part.value;
                svg.push_str(&format!(
                    "<rect class=\"c{}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\"/>",
                    part.colour,
                    LEFT + from,
                    axis.length(sum) - from
                ));
            }
            svg.push_str(&format!(
                "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>\n",
                LEFT + axis.length(sum) + 5.0,
                y + BAR - 3.0,
                readable(bar.total())
            ));
            y += BAR + BETWEEN_BARS;
        }
    }
}

/// Where values lie.
struct Axis {
    scale: Scale,
    /// The value at the right end.
    end: f64,
    step: f64,
    /// The length to it.
    room: f64,
}

impl Axis {
    fn new(scale: Scale, most: f64) -> Self {
        let room = WIDTH - LEFT - RIGHT;
        match scale {
            Scale::Linear => {
                let step = round_step(most.max(f64::MIN_POSITIVE) / MOST_TICKS);
                Self { scale, end: (most / step).ceil().max(1.0) * step, step, room }
            }
            Scale::Log => Self { scale, end: 10_f64.powf(most.max(10.0).log10().ceil()), step: 10.0, room },
        }
    }

    fn length(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value / self.end * self.room,
            Scale::Log => value.max(1.0).log10() / self.end.log10() * self.room,
        }
    }

    fn ticks(&self) -> Vec<f64> {
        let next = |tick: &f64| {
            let next = match self.scale {
                Scale::Linear => tick + self.step,
                Scale::Log => tick * self.step,
            };
            (next <= self.end * 1.000_001).then_some(next)
        };
        let first = if self.scale == Scale::Log { 1.0 } else { 0.0 };
        std::iter::successors(Some(first), next).collect()
    }
}

/// The next of 1, 2, 5, 10, … times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let digits = [1.0, 2.0, 5.0, 10.0].into_iter().find(|digit| digit * power >= least * 0.999_999);
    digits.unwrap_or(10.0) * power
}

/// Text that is no markup.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[expect(clippy::cast_precision_loss, reason = "a handful of things")]
const fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_past_the_longest_bar() {
        let axis = Axis::new(Scale::Linear, 22.8);
        assert_eq!((axis.end, axis.ticks()), (25.0, vec![0.0, 5.0, 10.0, 15.0, 20.0, 25.0]));
        let axis = Axis::new(Scale::Log, 22_831.0);
        assert_eq!(axis.ticks(), [1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0]);
        assert_eq!(axis.length(0.0), 0.0);
        assert!((axis.length(100_000.0) - axis.room).abs() < 1e-9);
        assert!(!Axis::new(Scale::Linear, 0.0).ticks().is_empty(), "a chart of zeros has an axis");
    }

    #[test]
    fn bars_stay_inside_and_names_are_no_markup() {
        let bar = |value| Bar { parts: vec![Part { colour: 1, value }], name: "<full>".into() };
        let chart = Chart {
            title: "a & b".into(),
            axis: "exits".into(),
            scale: Scale::Linear,
            groups: vec![Group { label: "x".into(), bars: vec![bar(3.0), bar(0.0)] }],
            legend: vec![(1, "full".into())],
        };
        let svg = chart.svg();
        assert!(
            svg.contains("aria-label=\"a &amp; b\"") && svg.contains("<title>&lt;full&gt;: 3</title>"),
            "{svg}"
        );
        assert!(svg.contains("width=\"490.0\"") && svg.contains("width=\"0.0\""), "{svg}");
    }
}
