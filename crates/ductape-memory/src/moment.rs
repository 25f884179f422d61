//! A point in time by the connection's clock, in a word.

use ductape_core::Clock;
use std::time::Duration;

/// Nanoseconds of [`Clock::monotonic`], so that no jump of the wall clock ends a lease. Enough for 584 years;
/// what is later is the end of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Before every other.
    pub(crate) const START: Moment = Moment(0);

    /// Now.
    pub(crate) fn now(clock: &Clock) -> Self {
        Moment::START.after(clock.monotonic())
    }

    /// So much later.
    pub(crate) fn after(self, duration: Duration) -> Self {
        Moment(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// As [`Clock::sleep_until`] takes it.
    pub(crate) fn as_deadline(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}
