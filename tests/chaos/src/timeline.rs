//! The picture of a run: what was published and handled a second, and which faults there were meanwhile.

use crate::check::Report;
use std::fmt::Write;

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 340.0;
const COLOURS: [&str; 4] = ["#3465a4", "#4e9a06", "#c17d11", "#75507b"];

/// How far a run was at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// When, in nanoseconds.
    pub time: u64,
    /// Messages published so far.
    pub published: u64,
    /// Messages that each group was done with so far.
    pub handled: Vec<u64>,
}

/// Draws a run. `title` is its first line.
pub(crate) fn draw(title: &str, samples: &[Sample], report: &Report) -> String {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return String::new() };
    let scale =
        Scale { begin: first.time, span: (last.time - first.time).max(1) as f64, top: highest(samples) };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/><text x=\"{LEFT}\" y=\"18\" \
         font-size=\"13\">{}</text>",
        escaped(title)
    );
    faults(&mut svg, &scale, report);
    axes(&mut svg, &scale);
    curve(&mut svg, &scale, COLOURS[0], &rates(samples, |sample| sample.published));
    let mut legend = vec![("published".to_owned(), COLOURS[0])];
    for (index, group) in report.groups.iter().enumerate() {
        let colour = COLOURS[(index + 1) % COLOURS.len()];
        curve(
            &mut svg,
            &scale,
            colour,
            &rates(samples, |sample| sample.handled.get(index).copied().unwrap_or(0)),
        );
        legend.push((format!("handled by {}", group.name), colour));
    }
    for (index, (name, colour)) in legend.iter().enumerate() {
        let (x, y) = (LEFT + 220.0 * index as f64, HEIGHT - 12.0);
        let _ = write!(svg, "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{}</text>", escaped(name));
    }
    svg.push_str("</svg>\n");
    svg
}

struct Scale {
    begin: u64,
    span: f64,
    top: f64,
}

impl Scale {
    fn x(&self, time: u64) -> f64 {
        let share = time.saturating_sub(self.begin) as f64 / self.span;
        LEFT + share.min(1.0) * (WIDTH - LEFT - 20.0)
    }

    fn y(&self, rate: f64) -> f64 {
        BOTTOM - rate / self.top * (BOTTOM - TOP)
    }
}

/// Messages a second between each two samples, at the later one.
fn rates(samples: &[Sample], count: impl Fn(&Sample) -> u64) -> Vec<(u64, f64)> {
    let pairs = samples.windows(2).map(|pair| {
        let seconds = (pair[1].time - pair[0].time).max(1) as f64 / 1e9;
        (pair[1].time, count(&pair[1]).saturating_sub(count(&pair[0])) as f64 / seconds)
    });
    pairs.collect()
}

fn highest(samples: &[Sample]) -> f64 {
    let published = rates(samples, |sample| sample.published);
    let groups = samples.first().map_or(0, |sample| sample.handled.len());
    let handled = (0..groups).flat_map(|group| rates(samples, move |sample| sample.handled[group]));
    published.into_iter().chain(handled).map(|(_, rate)| rate).fold(1.0, f64::max)
}

fn axes(svg: &mut String, scale: &Scale) {
    let right = WIDTH - 20.0;
    for quarter in 0..=4 {
        let rate = scale.top * f64::from(quarter) / 4.0;
        let y = scale.y(rate);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{rate:.0}/s</text>",
            LEFT - 5.0,
            y + 4.0
        );
    }
    for tenth in 0..=10u32 {
        let seconds = scale.span / 1e9 * f64::from(tenth) / 10.0;
        let x = LEFT + f64::from(tenth) / 10.0 * (right - LEFT);
        let _ = write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{seconds:.0} s</text>",
            BOTTOM + 16.0
        );
    }
}

fn curve(svg: &mut String, scale: &Scale, colour: &str, points: &[(u64, f64)]) {
    let mut line = String::new();
    for (time, rate) in points {
        let _ = write!(line, "{:.1},{:.1} ", scale.x(*time), scale.y(*rate));
    }
    let _ = write!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{line}\"/>");
}

/// Each fault as a band from its begin to its end, its name on a title that a browser shows, kills in red.
fn faults(svg: &mut String, scale: &Scale, report: &Report) {
    for fault in &report.faults {
        let (x, end) = (scale.x(fault.begin), scale.x(fault.end));
        let colour = if fault.fault.is_kill() { "#cc0000" } else { "#f57900" };
        let _ = write!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\" fill-opacity=\"0.25\">\
             <title>{}</title></rect>",
            (end - x).max(1.0),
            BOTTOM - TOP,
            fault.fault
        );
        if report.faults.len() <= 60 {
            let _ = write!(
                svg,
                "<text transform=\"translate({x:.1} {}) rotate(40)\" font-size=\"9\" fill=\"{colour}\">{}</text>",
                BOTTOM + 28.0,
                fault.fault
            );
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::GroupReport;

    #[test]
    fn a_run_is_drawn_with_its_rates() {
        let sample = |second: u64, published, handled| Sample {
            time: second * 1_000_000_000,
            published,
            handled: vec![handled],
        };
        let report = Report {
            groups: vec![GroupReport { name: "a<b".into(), ..GroupReport::default() }],
            ..Report::default()
        };
        let svg = draw("a & b", &[sample(1, 0, 0), sample(2, 100, 50), sample(3, 100, 100)], &report);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &amp; b") && svg.contains("handled by a&lt;b") && svg.contains(">100/s<"));
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(draw("", &[], &report).is_empty());
    }
}
