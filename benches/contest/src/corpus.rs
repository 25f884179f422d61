//! The messages: each has a number and the moment at which it was due, as text that every provider can carry.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Digits of a number in a payload, in base 16.
const DIGITS: usize = 16;
const DEPARTURES: &str = include_str!("../../../crates/ductape/examples/departures/departures.ndjson");
/// What stands before the number and the moment in JSON.
const BEFORE_NUMBER: &str = "{\"n\":\"";
const BEFORE_DUE: &str = "\",\"due\":\"";
const BEFORE_REST: &str = "\",";

/// Which payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Corpus {
    /// So many bytes of letters that do not compress to nothing. At least 32.
    Bytes(usize),
    /// Departures of flights as JSON, 290 bytes on average.
    Departures,
}

impl Corpus {
    /// Bytes of a payload, on average.
    pub fn bytes(self) -> usize {
        match self {
            Corpus::Bytes(len) => len,
            Corpus::Departures => {
                let own = BEFORE_NUMBER.len() + BEFORE_DUE.len() + BEFORE_REST.len() + 2 * DIGITS;
                DEPARTURES.len() / DEPARTURES.lines().count() - 2 + own
            }
        }
    }

    /// Whether the payloads are JSON.
    pub fn is_json(self) -> bool {
        self == Corpus::Departures
    }

    fn places(self) -> (usize, usize) {
        match self {
            Corpus::Bytes(_) => (0, DIGITS),
            Corpus::Departures => {
                let number = BEFORE_NUMBER.len();
                (number, number + DIGITS + BEFORE_DUE.len())
            }
        }
    }

    /// The number of a payload of this corpus; none of another.
    pub fn number(self, payload: &[u8]) -> Option<u64> {
        digits(payload, self.places().0)
    }

    /// When a payload was due, in microseconds since this process began to make payloads.
    pub fn due(self, payload: &[u8]) -> Option<u64> {
        digits(payload, self.places().1)
    }
}

impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Corpus::Bytes(len) if *len >= 1024 => write!(f, "{} KiB", len / 1024),
            Corpus::Bytes(len) => write!(f, "{len} B"),
            Corpus::Departures => f.write_str("departures"),
        }
    }
}

/// Makes the payloads of a corpus, numbered from 0 on.
#[derive(Clone, Debug)]
pub struct Messages {
    corpus: Corpus,
    /// What stands behind number and moment; one after the other, and then from the first again.
    rests: Arc<[Bytes]>,
    next: u64,
    end: u64,
}

impl Messages {
    /// So many messages.
    pub fn new(corpus: Corpus, count: u64) -> Self {
        let rests = match corpus {
            Corpus::Bytes(len) => vec![letters(len.saturating_sub(2 * DIGITS))],
            Corpus::Departures => {
                let lines = DEPARTURES.lines().map(|line| line.trim_start_matches('{').as_bytes());
                lines.map(Bytes::from_static).collect()
            }
        };
        // So that the first moment is not the time at which the clock was first asked.
        micros();
        Messages { corpus, rests: rests.into(), next: 0, end: count }
    }

    /// How many are left.
    pub fn left(&self) -> u64 {
        self.end - self.next
    }

    /// The next `most` of them.
    pub fn batch(&mut self, most: usize) -> Messages {
        let end = self.end.min(self.next + most as u64);
        let batch = Messages { rests: Arc::clone(&self.rests), end, ..*self };
        self.next = end;
        batch
    }

    /// The next one, due at this moment.
    pub fn due_at(&mut self, due: u64) -> Option<Bytes> {
        (self.next < self.end).then(|| {
            let number = self.next;
            self.next += 1;
            self.payload(number, due)
        })
    }

    fn payload(&self, number: u64, due: u64) -> Bytes {
        let rest = &self.rests[number as usize % self.rests.len()];
        let mut payload = Vec::with_capacity(rest.len() + 2 * DIGITS + 24);
        match self.corpus {
            Corpus::Bytes(_) => {
                payload.extend_from_slice(&hexadecimal(number));
                payload.extend_from_slice(&hexadecimal(due));
            }
            Corpus::Departures => {
                payload.extend_from_slice(BEFORE_NUMBER.as_bytes());
                payload.extend_from_slice(&hexadecimal(number));
                payload.extend_from_slice(BEFORE_DUE.as_bytes());
                payload.extend_from_slice(&hexadecimal(due));
                payload.extend_from_slice(BEFORE_REST.as_bytes());
            }
        }
        payload.extend_from_slice(rest);
        payload.into()
    }
}

impl Iterator for Messages {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.due_at(0)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left() as usize, Some(self.left() as usize))
    }
}

impl ExactSizeIterator for Messages {}

/// Microseconds since this was asked first.
pub fn micros() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// The same letters at every call: what compresses better on one side would be no comparison.
fn letters(len: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.alphanumeric() as u8).take(len).collect()
}

fn hexadecimal(number: u64) -> [u8; DIGITS] {
    std::array::from_fn(|place| b"0123456789abcdef"[(number >> (60 - 4 * place)) as usize & 15])
}

fn digits(payload: &[u8], at: usize) -> Option<u64> {
    let digits = payload.get(at..at + DIGITS)?;
    digits.iter().try_fold(0, |number, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Corpus; 4] =
        [Corpus::Bytes(64), Corpus::Bytes(1024), Corpus::Bytes(65_536), Corpus::Departures];

    #[test]
    fn each_payload_has_its_number_and_its_moment() {
        for corpus in ALL {
            let mut messages = Messages::new(corpus, 7000);
            let first = messages.due_at(5).unwrap();
            assert_eq!((corpus.number(&first), corpus.due(&first)), (Some(0), Some(5)));
            assert!(messages.zip(1..).all(|(payload, number)| corpus.number(&payload) == Some(number)));
        }
    }

    #[test]
    fn payloads_have_the_size_they_should() {
        for corpus in ALL {
            let all: usize = Messages::new(corpus, 6099).map(|payload| payload.len()).sum();
            assert_eq!(all / 6099, corpus.bytes(), "{corpus}");
        }
    }

    #[test]
    fn departures_are_json_and_foreign_payloads_have_no_number() {
        let payload = Messages::new(Corpus::Departures, 1).next().unwrap();
        let value: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert!(value["flightId"].is_string());
        for foreign in [&b"short"[..], &[0xff; 64]] {
            assert_eq!(Corpus::Bytes(64).number(foreign), None);
        }
    }

    #[test]
    fn batches_leave_nothing_out() {
        let mut messages = Messages::new(Corpus::Bytes(64), 10);
        let sizes: Vec<_> = std::iter::from_fn(|| Some(messages.batch(4).len())).take(4).collect();
        assert_eq!(sizes, [4, 4, 2, 0]);
    }
}
