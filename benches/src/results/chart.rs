//! A bar chart as SVG, readable on a light and on a dark page.

use crate::spread::short;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const NAMES: f64 = 150.0;
const FIGURES: f64 = 90.0;
const BAR: f64 = 16.0;
const GAP: f64 = 4.0;
const HEADING: f64 = 26.0;
const OURS: &str = "#2f81f7";
const RAW: &str = "#8c959f";
const OTHERS: &str = "#c9a227";

/// Groups of bars, each group with a scale of its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Chart {
    /// What is shown.
    pub title: String,
    /// Bars that are to be compared.
    pub groups: Vec<Group>,
}

/// Bars that are to be compared.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Group {
    /// What they show, such as `publish, 64 B`.
    pub title: String,
    /// The bars.
    pub bars: Vec<Bar>,
}

/// A value with its spread.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bar {
    /// Whose.
    pub name: String,
    /// The median.
    pub value: f64,
    /// The lowest round.
    pub low: f64,
    /// The highest round.
    pub high: f64,
}

impl Chart {
    /// The chart as a file.
    pub fn svg(&self) -> String {
        let (mut body, mut y) = (String::new(), HEADING);
        text(&mut body, 8.0, y - 8.0, "bold", "start", &self.title);
        for group in &self.groups {
            y = draw_group(&mut body, y, group);
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y:.0}\" viewBox=\"0 0 {WIDTH} \
             {y:.0}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<style>text {{ fill: #1f2328 }} line \
             {{ stroke: #1f2328 }} @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} line {{ stroke: \
             #e6edf3 }} }}</style>\n{body}</svg>\n"
        )
    }
}

/// Returns where the next group begins.
fn draw_group(body: &mut String, top: f64, group: &Group) -> f64 {
    let mut y = top + HEADING;
    text(body, 8.0, y - 8.0, "normal", "start", &group.title);
    let most = group.bars.iter().map(|bar| bar.high.max(bar.value)).fold(f64::MIN_POSITIVE, f64::max);
    for bar in &group.bars {
        draw_bar(body, y, bar, (WIDTH - NAMES - FIGURES) / most);
        y += BAR + GAP;
    }
    y + GAP
}

fn draw_bar(body: &mut String, y: f64, bar: &Bar, scale: f64) {
    let (width, middle) = (bar.value * scale, y + BAR / 2.0);
    text(body, NAMES - 8.0, middle + 4.0, "normal", "end", &bar.name);
    let _ = writeln!(
        body,
        "<rect x=\"{NAMES}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
        colour(&bar.name)
    );
    let (low, high) = (NAMES + bar.low * scale, NAMES + bar.high * scale);
    let _ = writeln!(
        body,
        "<line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke-width=\"1.5\"/>"
    );
    text(
        body,
        NAMES + (bar.high * scale).max(width) + 6.0,
        middle + 4.0,
        "normal",
        "start",
        &short(bar.value),
    );
}

fn colour(name: &str) -> &'static str {
    match name {
        "ours" => OURS,
        "raw" | "bare" => RAW,
        _ => OTHERS,
    }
}

fn text(body: &mut String, x: f64, y: f64, weight: &str, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        body,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-weight=\"{weight}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_the_proportions_of_their_values() {
        let bar = |name: &str, value: f64| Bar { name: name.into(), value, low: value, high: value };
        let bars = vec![bar("ours", 100.0), bar("a < b", 50.0)];
        let chart = Chart { title: "t".into(), groups: vec![Group { title: "publish".into(), bars }] };
        let svg = chart.svg();
        assert!(svg.contains("width=\"520.0\"") && svg.contains("width=\"260.0\""), "{svg}");
        assert!(svg.contains("a &lt; b"));
    }
}
