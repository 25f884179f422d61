//! What a run came to, as people and `cargo test` read it.

use super::property::Section;
use std::fmt;
use std::time::Duration;

/// How one property ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed {
        /// What the contract asks for.
        expected: String,
        /// What the broker did.
        seen: String,
    },
    /// It was not tried.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// One property of one subject.
#[derive(Clone, Debug)]
pub struct PropertyReport {
    /// The subject's label.
    pub label: String,
    /// The part of the contract.
    pub section: Section,
    /// What is claimed.
    pub sentence: &'static str,
    /// How it ended.
    pub status: Status,
    /// How long it took.
    pub took: Duration,
}

/// All properties of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Those that were chosen, in the order of the suite.
    pub properties: Vec<PropertyReport>,
    /// How many were not chosen.
    pub filtered_out: usize,
    /// How long all of it took.
    pub took: Duration,
}

impl PropertyReport {
    /// `label section: sentence`, unique in a run.
    pub fn name(&self) -> String {
        format!("{} {}: {}", self.label, self.section, self.sentence)
    }
}

impl Report {
    /// The sentences of the properties that do not hold.
    pub fn failed(&self) -> Vec<&'static str> {
        let failed = self.properties.iter().filter(|p| matches!(p.status, Status::Failed { .. }));
        failed.map(|property| property.sentence).collect()
    }

    /// Whether every property that was tried holds.
    pub fn is_ok(&self) -> bool {
        self.failed().is_empty()
    }

    fn count(&self, of: impl Fn(&Status) -> bool) -> usize {
        self.properties.iter().filter(|property| of(&property.status)).count()
    }
}

impl fmt::Display for PropertyReport {
    /// `ok NAME (3 ms)`, `skip NAME (reason)`, or `FAILED NAME` with what was expected and seen below.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, took) = (self.name(), self.took.as_millis());
        match &self.status {
            Status::Passed => write!(f, "ok {name} ({took} ms)"),
            Status::Skipped { reason } => write!(f, "skip {name} ({reason})"),
            Status::Failed { expected, seen } => {
                write!(f, "FAILED {name} ({took} ms)\n    expected: {expected}\n    seen:     {seen}")
            }
        }
    }
}

impl fmt::Display for Report {
    /// The last line, in the form of cargo's own harness.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_ok() { "ok" } else { "FAILED" };
        let passed = self.count(|status| *status == Status::Passed);
        let ignored = self.count(|status| matches!(status, Status::Skipped { .. }));
        let (failed, filtered, took) = (self.failed().len(), self.filtered_out, self.took.as_secs_f64());
        write!(
            f,
            "test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
             {filtered} filtered out; finished in {took:.2}s"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(status: Status) -> PropertyReport {
        let took = Duration::from_millis(3);
        PropertyReport {
            label: "memory".into(),
            section: Section::Order,
            sentence: "a key keeps its order",
            status,
            took,
        }
    }

    #[test]
    fn each_ending_is_a_line_that_the_summary_of_all_tests_reads() {
        let failed = Status::Failed { expected: "a".into(), seen: "b".into() };
        let skipped = Status::Skipped { reason: "no server (X is not set)".into() };
        assert_eq!(property(Status::Passed).to_string(), "ok memory order: a key keeps its order (3 ms)");
        assert_eq!(
            property(skipped).to_string(),
            "skip memory order: a key keeps its order (no server (X is not set))"
        );
        assert_eq!(
            property(failed).to_string(),
            "FAILED memory order: a key keeps its order (3 ms)\n    expected: a\n    seen:     b"
        );
    }

    #[test]
    fn the_last_line_counts_and_one_failure_fails_all() {
        let failed = Status::Failed { expected: String::new(), seen: String::new() };
        let skipped = Status::Skipped { reason: String::new() };
        let mut report = Report {
            properties: vec![property(Status::Passed), property(skipped)],
            filtered_out: 3,
            took: Duration::from_millis(80),
        };
        let counts = "1 ignored; 0 measured; 3 filtered out; finished in 0.08s";
        assert_eq!(report.to_string(), format!("test result: ok. 1 passed; 0 failed; {counts}"));
        report.properties.push(property(failed));
        assert_eq!(report.to_string(), format!("test result: FAILED. 1 passed; 1 failed; {counts}"));
    }
}
