//! What handlers saw, in the order they saw it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long a test waits for something that has to happen.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Entries in the order in which they were made, and waiting for some to be there.
#[derive(Debug)]
pub struct Record<T> {
    entries: Mutex<Vec<T>>,
    grown: watch::Sender<()>,
}

impl<T> Default for Record<T> {
    fn default() -> Self {
        Record { entries: Mutex::default(), grown: watch::Sender::new(()) }
    }
}

impl<T: Clone> Record<T> {
    /// Adds an entry.
    pub fn push(&self, entry: T) {
        self.with(|entries| entries.push(entry));
        self.grown.send_replace(());
    }

    /// All entries so far.
    pub fn all(&self) -> Vec<T> {
        self.with(|entries| entries.clone())
    }

    /// Waits until the entries are enough.
    ///
    /// # Panics
    /// Where they are not in time; `what` says what was waited for.
    pub async fn until(&self, what: &str, enough: impl Fn(&[T]) -> bool) {
        let mut grown = self.grown.subscribe();
        let wait = async {
            while !self.with(|entries| enough(entries)) {
                grown.changed().await.unwrap();
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, wait).await.is_ok();
        assert!(in_time, "not within {DEADLINE:?}: {what}; there are {} entries", self.all().len());
    }

    fn with<R>(&self, look: impl FnOnce(&mut Vec<T>) -> R) -> R {
        look(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
