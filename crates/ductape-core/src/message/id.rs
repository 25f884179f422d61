//! Message ids: UUIDv7 for what Ductape publishes, any text for what others did.

use crate::time::Timestamp;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// The id of a message. Ordered by time where Ductape made it (UUIDv7, RFC 9562 §5.7).
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum MessageId {
    /// An id that Ductape made, or one that reads as a UUID.
    Uuid(Uuid),
    /// The id of a foreign message: its CloudEvents id, or one derived from its position, so that it is the
    /// same on every redelivery.
    Text(Arc<str>),
}

impl MessageId {
    /// Reads an id as it stands on the wire. Only the usual lower-case, hyphenated form is taken as a UUID,
    /// so that writing it again gives the same text.
    pub fn parse(text: &str) -> Self {
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase()) => Self::Uuid(uuid),
            _ => Self::Text(Arc::from(text)),
        }
    }

    /// Hands its text to `then`, without a place of its own for it.
    pub fn with_text<R>(&self, then: impl FnOnce(&str) -> R) -> R {
        match self {
            MessageId::Uuid(uuid) => then(uuid.as_hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            MessageId::Text(text) => then(text),
        }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.pad(text))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes ids: 48 bits of time, a 12-bit counter, and 62 random bits from a generator seeded by the operating
/// system (RFC 9562 §6.2, method 1, with the counter begun at random).
pub struct IdSource {
    random: fastrand::Rng,
    counter: u16,
}

impl IdSource {
    /// A source with a seed of its own, from the thread's generator, which the operating system seeded. Cheap
    /// enough to be made for every batch.
    #[inline]
    pub fn new() -> Self {
        let mut random = fastrand::Rng::new();
        let counter = random.u16(..);
        IdSource { random, counter }
    }

    /// The next id of a message published at `time`.
    #[inline]
    pub fn next(&mut self, time: Timestamp) -> MessageId {
        const VERSION: u128 = 7 << 76;
        const VARIANT: u128 = 0b10 << 62;
        self.counter = self.counter.wrapping_add(1);
        let millis = (time.as_millis().max(0) as u128) << 80;
        let counter = u128::from(self.counter & 0xfff) << 64;
        let random = u128::from(self.random.u64(..) >> 2);
        MessageId::Uuid(Uuid::from_u128(millis | VERSION | counter | VARIANT | random))
    }
}

impl Default for IdSource {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for IdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdSource")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_7_with_the_time_in_front() {
        let MessageId::Uuid(uuid) = IdSource::new().next(Timestamp::from_micros(1_700_000_000_123_456))
        else {
            panic!("not a uuid");
        };
        assert_eq!(uuid.get_version_num(), 7);
        let (seconds, nanos) = uuid.get_timestamp().unwrap().to_unix();
        assert_eq!((seconds, nanos), (1_700_000_000, 123_000_000));
    }

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in ["0190b3f4-0000-7000-8000-000000000000", "0190B3F4-0000-7000-8000-000000000000", "42", ""]
        {
            assert_eq!(MessageId::parse(text).to_string(), text);
        }
    }

    #[test]
    fn a_hundred_thousand_ids_of_one_instant_differ() {
        let mut source = IdSource::new();
        let ids: std::collections::HashSet<_> =
            (0..100_000).map(|_| source.next(Timestamp::from_micros(1))).collect();
        assert_eq!(ids.len(), 100_000);
    }
}
