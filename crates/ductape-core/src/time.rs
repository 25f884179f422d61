//! Points in time as messages carry them, and the clock that everything timed asks.

mod rfc3339;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// A point in time: microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Timestamp(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Hands its text to `then`, as `Display` writes it, without a place of its own for it.
    pub fn with_text<R>(self, then: impl FnOnce(&str) -> R) -> R {
        match rfc3339::write(self.0, &mut [0; rfc3339::LONGEST]) {
            Some(text) => then(text),
            None => then(&self.to_string()),
        }
    }

    /// Milliseconds since the Unix epoch, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This much later; the end of time where it would overflow.
    #[must_use]
    pub const fn saturating_add(self, later: Duration) -> Self {
        let micros = later.as_micros();
        Timestamp(self.0.saturating_add(if micros > i64::MAX as u128 { i64::MAX } else { micros as i64 }))
    }

    /// How long since `earlier`; zero where that is in the future.
    pub const fn saturating_since(self, earlier: Timestamp) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(if micros < 0 { 0 } else { micros as u64 })
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, as CloudEvents asks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = rfc3339::write(self.0, &mut [0; rfc3339::LONGEST]) {
            return f.pad(text);
        }
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => fmt::Display::fmt(&time, f),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    /// Reads RFC 3339, with any offset.
    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        if let Some(micros) = rfc3339::read(text.as_bytes()) {
            return Ok(Timestamp(micros));
        }
        text.parse::<jiff::Timestamp>().map(|time| Timestamp(time.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What time it is, and waiting for it to pass. The system's, or one that a test moves by hand.
///
/// Everything in core and in the embedded providers that waits for a time (retry, lease, timeout, delay) asks
/// this clock, so that a test of a five-minute backoff takes no five minutes. Cheap to clone.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<Manual>>);

struct Manual {
    micros: AtomicI64,
    moved: Notify,
}

impl Clock {
    /// The system's clock.
    pub const fn system() -> Self {
        Clock(None)
    }

    /// A clock that stands still until [`Clock::advance`].
    pub fn manual(start: Timestamp) -> Self {
        Clock(Some(Arc::new(Manual { micros: AtomicI64::new(start.0), moved: Notify::new() })))
    }

    /// Whether this clock is moved by hand.
    pub const fn is_manual(&self) -> bool {
        self.0.is_some()
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Some(manual) => Timestamp(manual.micros.load(Ordering::Acquire)),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Time that only goes forward, from an arbitrary origin: for time limits inside a process, which a jump
    /// of the wall clock must not touch.
    pub fn monotonic(&self) -> Duration {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        match &self.0 {
            Some(_) => self.now().saturating_since(Timestamp(0)),
            None => ORIGIN.get_or_init(Instant::now).elapsed(),
        }
    }

    /// Moves a manual clock forward and wakes what was waiting for that time. Nothing happens to the system's.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.0 {
            let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            manual.micros.fetch_add(micros, Ordering::AcqRel);
            manual.moved.notify_waiters();
        }
    }

    /// Waits for as long as `duration` by this clock. On the system's clock a jump of the wall clock does
    /// not matter: the wait is monotonic.
    pub fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.sleep_until(self.monotonic().saturating_add(duration))
    }

    /// Waits until [`Clock::monotonic`] has reached `deadline`.
    pub fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        let Some(manual) = &self.0 else {
            return Box::pin(tokio::time::sleep(deadline.saturating_sub(self.monotonic())));
        };
        let manual = Arc::clone(manual);
        let until = i64::try_from(deadline.as_micros()).unwrap_or(i64::MAX);
        Box::pin(async move {
            loop {
                // Registered before the time is read, so that a move in between is not missed.
                let moved = manual.moved.notified();
                if manual.micros.load(Ordering::Acquire) >= until {
                    return;
                }
                moved.await;
            }
        })
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_manual() { "Clock(manual)" } else { "Clock(system)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_written_and_read_as_rfc_3339() {
        let time: Timestamp = "2013-01-01T05:15:00-05:00".parse().unwrap();
        assert_eq!(time.to_string(), "2013-01-01T10:15:00Z");
        assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn time_does_not_overflow() {
        let end = Timestamp::from_micros(i64::MAX);
        assert_eq!(end.saturating_add(Duration::MAX), end);
        assert_eq!(Timestamp::from_micros(0).saturating_since(end), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_when_it_is_moved_far_enough() {
        let clock = Clock::manual(Timestamp::from_micros(0));
        let mut sleep = clock.sleep(Duration::from_secs(300));
        clock.advance(Duration::from_secs(299));
        assert!(futures_util::poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(1));
        sleep.await;
        assert_eq!(clock.now().as_millis(), 300_000);
    }
}
