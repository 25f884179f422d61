//! Medians, and how far the rounds lie apart.

use std::fmt;
use std::time::{Duration, Instant};

/// The rounds of one measurement.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    /// Adds a round.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one; of an even number the lower of both, and 0 of none.
    pub fn median(&self) -> f64 {
        percentile(&self.0, 0.5)
    }

    /// The lowest and the highest.
    pub fn range(&self) -> (f64, f64) {
        (percentile(&self.0, 0.0), percentile(&self.0, 1.0))
    }
}

impl Rounds {
    /// How many rounds there were.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the ranges of both have values in common, so that no difference is proven.
    pub fn overlaps(&self, other: &Rounds) -> bool {
        let ((low, high), (other_low, other_high)) = (self.range(), other.range());
        low <= other_high && other_low <= high
    }
}

impl fmt::Display for Rounds {
    /// The median, and in brackets the lowest and the highest round.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.range();
        write!(f, "{} [{}..{}]", short(self.median()), short(low), short(high))
    }
}

/// The value below which this part of the values lies; 0 of none.
pub fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * part).floor() as usize).copied().unwrap_or(0.0)
}

/// Three figures, with k or M.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{:.2}M", value / 1e6),
        v if v >= 1e4 => format!("{:.0}k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// So many a second.
pub fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// How long a future takes.
///
/// # Errors
/// The future's own.
pub async fn timed<T>(work: impl Future<Output = crate::Result<T>>) -> crate::Result<Duration> {
    let start = Instant::now();
    work.await?;
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_range_do_not_depend_on_the_order() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.median(), 0.0);
        for value in [3.0, 1.0, 20_000.0] {
            rounds.push(value);
        }
        assert_eq!(rounds.to_string(), "3.000 [1.000..20k]");
    }

    #[test]
    fn ranges_overlap_or_do_not() {
        let of = |values: &[f64]| {
            values.iter().fold(Rounds::default(), |mut rounds, value| {
                rounds.push(*value);
                rounds
            })
        };
        assert!(of(&[1.0, 3.0]).overlaps(&of(&[2.0, 4.0])));
        assert!(!of(&[1.0, 2.0]).overlaps(&of(&[3.0, 4.0])));
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (0..101).map(f64::from).collect();
        assert_eq!((percentile(&values, 0.5), percentile(&values, 0.99)), (50.0, 99.0));
    }
}
