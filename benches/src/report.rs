//! The report: a line a measurement, with its target and whether it is met.

use crate::spread::short;
use serde::{Deserialize, Serialize};

/// What a value is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// It may not be more.
    AtMost(f64),
    /// It may not be less.
    AtLeast(f64),
}

impl Target {
    fn met(self, value: f64) -> bool {
        match self {
            Target::AtMost(bound) => value <= bound,
            Target::AtLeast(bound) => value >= bound,
        }
    }

    fn shown(self) -> String {
        match self {
            Target::AtMost(bound) => format!("at most {bound}"),
            Target::AtLeast(bound) => format!("at least {bound}"),
        }
    }

    /// By how many percent of the bound a value misses it.
    fn missed_by(self, value: f64) -> f64 {
        let (Target::AtMost(bound) | Target::AtLeast(bound)) = self;
        (value - bound).abs() / bound * 100.0
    }
}

/// A measurement as it was printed, for the document.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TargetLine {
    /// What was measured.
    pub name: String,
    /// The value with its unit.
    pub value: String,
    /// What it is held against; empty where it is only told.
    pub target: String,
    /// Whether that is met.
    pub verdict: String,
    /// What the value was made from.
    pub detail: String,
}

/// Prints measurements as they come, counts what was missed, and keeps all for the document.
#[derive(Debug, Default)]
pub struct Report {
    missed: Vec<String>,
    skipped: Vec<String>,
    part: String,
    lines: Vec<TargetLine>,
}

impl Report {
    /// Begins a part.
    pub fn part(&mut self, title: &str) {
        println!("\n{title}");
        self.part = title.split(':').next().unwrap_or_default().to_owned();
    }

    /// All measurements so far, in their order.
    pub fn lines(&self) -> &[TargetLine] {
        &self.lines
    }

    /// What could not be measured, and why.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    fn keep(&mut self, name: &str, value: String, target: String, verdict: &str, detail: &str) {
        let name = if self.part.is_empty() { name.to_owned() } else { format!("{}: {name}", self.part) };
        let (verdict, detail) = (verdict.to_owned(), detail.to_owned());
        self.lines.push(TargetLine { name, value, target, verdict, detail });
    }

    /// A measurement with a target. `detail` says what the value was made from.
    pub fn line(&mut self, name: &str, value: f64, unit: &str, target: Target, detail: &str) {
        let (shown, verdict) = (short(value), self.verdict(name, value, target));
        println!("  {name:<52} {shown:>8} {unit:<7} {:<14} {verdict:<16} {detail}", target.shown());
        self.keep(name, format!("{shown} {unit}").trim().to_owned(), target.shown(), &verdict, detail);
    }

    /// A measurement that is only told.
    pub fn told(&mut self, name: &str, value: f64, unit: &str, detail: &str) {
        println!("  {name:<52} {:>8} {unit:<7} {:<14} {:<16} {detail}", short(value), "", "");
        self.keep(name, format!("{} {unit}", short(value)).trim().to_owned(), String::new(), "", detail);
    }

    /// A measurement that could not be made.
    pub fn skip(&mut self, name: &str, reason: &str) {
        self.skipped.push(format!("{name}: {reason}"));
        println!("  skip {name} ({reason})");
    }

    fn verdict(&mut self, name: &str, value: f64, target: Target) -> String {
        if target.met(value) {
            return "met".into();
        }
        let verdict = format!("MISSED by {:.0} %", target.missed_by(value));
        self.missed.push(format!("{name}: {verdict}"));
        verdict
    }

    /// Says what was missed and skipped, and returns whether nothing was.
    pub fn end(&self) -> bool {
        println!("\n{} missed, {} skipped", self.missed.len(), self.skipped.len());
        for missed in &self.missed {
            println!("  {missed}");
        }
        self.missed.is_empty() && self.skipped.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_counted_with_its_distance() {
        let mut report = Report::default();
        report.line("fast", 90.0, "", Target::AtMost(100.0), "");
        assert!(report.end());
        report.line("slow", 150.0, "", Target::AtMost(100.0), "");
        report.line("few", 0.4, "", Target::AtLeast(0.5), "");
        assert_eq!(report.missed, ["slow: MISSED by 50 %", "few: MISSED by 20 %"]);
        assert!(!report.end());
    }

    #[test]
    fn a_skip_is_no_success() {
        let mut report = Report::default();
        report.skip("instructions", "valgrind is not installed");
        assert!(!report.end());
    }
}
