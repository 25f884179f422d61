//! Reading what cargo's and the testkit's harnesses print.

use std::collections::BTreeMap;
use std::fmt;

/// What a run of tests came to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Summary {
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// Name and reason.
    pub(super) skipped: BTreeMap<String, String>,
    /// The programs that failed, and how each ended.
    pub(super) faults: Vec<String>,
}

impl Summary {
    /// Takes one line; what is not a result or a skip is not looked at.
    pub(super) fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
        } else if let Some((name, reason)) = skip(line).or_else(|| ignored(line)) {
            self.skipped.insert(name.to_owned(), reason.to_owned());
        }
    }

    /// Skips by whose they are, the first word of their names, and why: a server that is not there skips a whole suite,
    /// whose names its own output has.
    fn skipped_together(&self) -> BTreeMap<(&str, &str), Vec<&str>> {
        let mut together = BTreeMap::<_, Vec<_>>::new();
        for (name, reason) in &self.skipped {
            let subject = name.split_once(' ').map_or(name.as_str(), |(subject, _)| subject);
            together.entry((subject, reason.as_str())).or_default().push(name.as_str());
        }
        together
    }
}

/// `skip NAME (REASON)`, of the testkit.
fn skip(line: &str) -> Option<(&str, &str)> {
    let (name, reason) = line.strip_prefix("skip ")?.split_once(" (")?;
    Some((name, reason.strip_suffix(')')?))
}

/// `test NAME ... ignored, REASON`, of the standard harness.
fn ignored(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    Some((name, rest.strip_prefix(", ").unwrap_or("ignored without a reason")))
}

/// The number before `word` in `ok. 12 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> u64 {
    let mut before = "";
    for next in counts.split_whitespace() {
        if next.trim_end_matches(';') == word {
            return before.parse().unwrap_or(0);
        }
        before = next;
    }
    0
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((subject, reason), names) in self.skipped_together() {
            match names.as_slice() {
                [name] => writeln!(f, "skipped {name}: {reason}")?,
                names => writeln!(f, "skipped {subject}, {} properties: {reason}", names.len())?,
            }
        }
        for fault in &self.faults {
            writeln!(f, "failed {fault}")?;
        }
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())
    }
}

/// The names of those skips that `list` does not have. A listed name may end in `*`.
pub(super) fn unlisted<'s>(skipped: &'s BTreeMap<String, String>, list: &str) -> Vec<&'s str> {
    let listed: Vec<&str> = list
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" # ").map(|(name, _)| name.trim()))
        .collect();
    let known = |name: &str| {
        listed.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => *pattern == name,
        })
    };
    skipped.keys().map(String::as_str).filter(|name| !known(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str) -> Summary {
        let mut summary = Summary::default();
        output.lines().for_each(|line| summary.read(line));
        summary
    }

    #[test]
    fn results_of_all_harnesses_add_up_and_skips_keep_their_reasons() {
        let summary = read(
            "running 3 tests\n\
             test a::b ... ok\n\
             test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 5 filtered out; finished in 0.08s\n\
             skip kafka delivery: a thing (no server (KAFKA_HOST is not set))\n\
             test slow ... ignored, takes an hour\n\
             test src/lib.rs - x (line 3) ... ignored\n\
             test result: ok. 40 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 1s",
        );
        assert_eq!((summary.passed, summary.failed), (42, 1));
        assert_eq!(
            summary.to_string(),
            "skipped kafka delivery: a thing: no server (KAFKA_HOST is not set)\n\
             skipped slow: takes an hour\n\
             skipped src/lib.rs - x (line 3): ignored without a reason\n\
             42 passed, 1 failed, 3 skipped"
        );
    }

    #[test]
    fn what_is_skipped_for_one_reason_is_one_line() {
        let summary =
            read("skip kafka one (no server)\nskip kafka two (no server)\nskip kafka three (a bug)");
        let expected = "skipped kafka three: a bug\nskipped kafka, 2 properties: no server\n0 passed, 0 failed, 3 skipped";
        assert_eq!(summary.to_string(), expected);
    }

    #[test]
    fn what_only_looks_like_a_skip_is_none() {
        assert_eq!(read("skip this\nskipping x (y)\n    skip x (y)\ntest x ... ok"), Summary::default());
    }

    #[test]
    fn a_skip_is_listed_by_its_name_or_its_beginning() {
        let summary = read("skip a (r)\nskip kafka one (r)\nskip kafka two (r)\nskip b (r)");
        let list = "# a comment # with a mark\na # known\nkafka * # needs a server\nb without reason";
        assert_eq!(unlisted(&summary.skipped, list), ["b"]);
        assert_eq!(unlisted(&summary.skipped, "").len(), 4);
    }
}
