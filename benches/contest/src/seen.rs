//! Which messages came back.

use crate::corpus::{Corpus, micros};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// Takes note of every delivery. Clones share their notes.
#[derive(Clone, Debug)]
pub struct Seen(Arc<Notes>);

#[derive(Debug)]
struct Notes {
    corpus: Corpus,
    expected: u64,
    /// A bit a message.
    bits: Vec<AtomicU64>,
    distinct: AtomicU64,
    repeated: AtomicU64,
    foreign: AtomicU64,
    first: OnceLock<Instant>,
    complete: Notify,
    /// Microseconds, where ages are noted.
    ages: Option<Mutex<Vec<u32>>>,
}

impl Seen {
    /// Expects so many messages of this corpus. `with_ages` notes how old each is.
    pub fn new(corpus: Corpus, expected: u64, with_ages: bool) -> Self {
        Seen(Arc::new(Notes {
            corpus,
            expected,
            bits: (0..expected.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            distinct: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            first: OnceLock::new(),
            complete: Notify::new(),
            ages: with_ages.then(|| Mutex::new(Vec::with_capacity(expected as usize))),
        }))
    }

    /// Notes a delivery, and says whether all are here now.
    pub fn take(&self, payload: &[u8]) -> bool {
        let notes = &*self.0;
        let number = notes.corpus.number(payload).filter(|number| *number < notes.expected);
        let Some(number) = number else {
            notes.foreign.fetch_add(1, Ordering::Relaxed);
            return self.is_complete();
        };
        let bit = 1 << (number % 64);
        if notes.bits[number as usize / 64].fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            notes.repeated.fetch_add(1, Ordering::Relaxed);
            return self.is_complete();
        }
        self.note_age(payload);
        let before = notes.distinct.fetch_add(1, Ordering::AcqRel);
        if before == 0 {
            notes.first.get_or_init(Instant::now);
        }
        let complete = before + 1 == notes.expected;
        if complete {
            notes.complete.notify_one();
        }
        complete
    }

    fn note_age(&self, payload: &[u8]) {
        let Some(ages) = &self.0.ages else { return };
        let age = micros().saturating_sub(self.0.corpus.due(payload).unwrap_or(0));
        ages.lock().unwrap_or_else(PoisonError::into_inner).push(u32::try_from(age).unwrap_or(u32::MAX));
    }

    /// Whether every message came.
    pub fn is_complete(&self) -> bool {
        self.distinct() >= self.0.expected
    }

    /// Waits until every message came. One waits at a time.
    pub async fn all(&self) {
        while !self.is_complete() {
            self.0.complete.notified().await;
        }
    }

    /// Messages that came so far, each counted once.
    pub fn distinct(&self) -> u64 {
        self.0.distinct.load(Ordering::Acquire)
    }

    /// Deliveries beyond the first of a message.
    pub fn repeated(&self) -> u64 {
        self.0.repeated.load(Ordering::Acquire)
    }

    /// Deliveries of what nobody published here.
    pub fn foreign(&self) -> u64 {
        self.0.foreign.load(Ordering::Acquire)
    }

    /// When the first came.
    pub fn first(&self) -> Option<Instant> {
        self.0.first.get().copied()
    }

    /// The ages in milliseconds, lowest first; empty where they are not noted.
    pub fn ages(&self) -> Vec<f64> {
        let Some(ages) = &self.0.ages else { return Vec::new() };
        let mut ages = ages.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ages.sort_unstable();
        ages.into_iter().map(|micros| f64::from(micros) / 1e3).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Messages;

    #[tokio::test]
    async fn only_each_message_once_makes_it_complete() {
        let (corpus, seen) = (Corpus::Bytes(64), Seen::new(Corpus::Bytes(64), 3, true));
        let payloads: Vec<_> = Messages::new(corpus, 4).collect();
        assert!(!seen.take(&payloads[0]));
        assert!(!seen.take(&payloads[0]));
        assert!(!seen.take(&payloads[3]));
        assert!(!seen.take(b"foreign"));
        assert!(!seen.take(&payloads[2]));
        assert!(seen.take(&payloads[1]));
        seen.all().await;
        assert_eq!((seen.distinct(), seen.repeated(), seen.foreign(), seen.ages().len()), (3, 1, 2, 3));
    }
}
