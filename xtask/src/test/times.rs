//! How long each test program took.

use std::fmt;
use std::time::Duration;

/// How many of the slowest are shown.
const SHOWN: usize = 10;
/// What takes less is not shown.
const WORTH_SHOWING: Duration = Duration::from_secs(1);

/// The times of test programs.
#[derive(Debug, Default)]
pub(super) struct Times(Vec<(Duration, String)>);

impl Times {
    pub(super) fn add(&mut self, name: String, took: Duration) {
        self.0.push((took, name));
    }
}

impl fmt::Display for Times {
    /// The slowest first, a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut slowest: Vec<_> = self.0.iter().filter(|(took, _)| *took >= WORTH_SHOWING).collect();
        slowest.sort_by(|a, b| b.cmp(a));
        for (took, name) in slowest.into_iter().take(SHOWN) {
            writeln!(f, "{:>6.1} s  {name}", took.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_stands_first_and_what_is_quick_is_left_out() {
        let mut times = Times::default();
        for (name, seconds) in [("redis conformance", 2), ("sqs conformance", 3), ("core", 0)] {
            times.add(name.into(), Duration::from_secs(seconds));
        }
        assert_eq!(times.to_string(), "   3.0 s  sqs conformance\n   2.0 s  redis conformance\n");
    }
}
