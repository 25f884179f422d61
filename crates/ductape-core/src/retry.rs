//! How long to wait before the next try: exponential backoff with jitter, for handlers and for connections.

use std::time::Duration;

/// When a failed message is tried again, and when it is given up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// How often a handler gets a message in all before it goes to the dead letters. At least 1. Default 5.
    pub attempts: u32,
    /// How long until the second attempt. Default 1 s.
    pub initial: Duration,
    /// What each further wait is multiplied by. Default 2.
    pub factor: f64,
    /// The longest wait. Default 5 min.
    pub max: Duration,
    /// The share of a wait that chance may take away, so that what failed together does not come back
    /// together: 0 to 1. Default 0.2.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            attempts: 5,
            initial: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(300),
            jitter: 0.2,
        }
    }
}

impl RetryPolicy {
    /// Gives a message up after its first failure.
    pub fn none() -> Self {
        RetryPolicy { attempts: 1, ..Self::default() }
    }

    /// For reconnecting: 100 ms at first, 30 s at most; attempts do not count.
    pub(crate) fn reconnect() -> Self {
        RetryPolicy {
            attempts: u32::MAX,
            initial: Duration::from_millis(100),
            max: Duration::from_secs(30),
            ..Self::default()
        }
    }

    /// How long to wait after this many failed attempts; `chance` is in 0..1.
    pub fn delay(&self, failed: u32, chance: f64) -> Duration {
        let exponent = i32::try_from(failed.saturating_sub(1)).unwrap_or(i32::MAX);
        let full = self.initial.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        let capped = full.min(self.max.as_secs_f64());
        let kept = capped * (1.0 - self.jitter.clamp(0.0, 1.0) * chance);
        Duration::try_from_secs_f64(kept).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let policy = RetryPolicy::default();
        let seconds: Vec<u64> = (1..=11).map(|n| policy.delay(n, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(policy.delay(u32::MAX, 0.0), policy.max);
    }

    #[test]
    fn chance_takes_a_share_and_no_more() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.delay(1, 1.0), Duration::from_millis(800));
    }
}
