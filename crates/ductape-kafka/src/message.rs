//! A message as a record and back: CloudEvents' Kafka binding 1.0.2, binary mode. Pure functions.
//!
//! Metadata stands in `ce_` headers, the content type in `content-type` without prefix (its section 3.2.1), the key in
//! the record's key, and the payload is the record's value as it is. Headers keep their order and may repeat.

use crate::series::Series;
use bytes::Bytes;
use ductape_core::message::{Attributes, BatchAttributes, Payloads};
use ductape_core::wire::{self, Reader};
use ductape_core::{Key, Message, Timestamp};
use rdkafka::message::{Header, OwnedHeaders};
use std::sync::Arc;

const PREFIX: &str = "ce_";
const CONTENT_TYPE: &str = "content-type";
/// What core calls the content type, behind the prefix.
const CE_CONTENT_TYPE: &str = "ce_datacontenttype";
/// The attributes that every message has.
const ATTRIBUTES: usize = 8;

/// What a topic takes that has the brokers' defaults (`message.max.bytes` = 1048588), less what metadata may take.
pub const MAX_MESSAGE_BYTES: usize = MAX_RECORD_BYTES - MAX_METADATA_BYTES;
/// What is left for metadata beside the largest message.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;
/// The largest record: a batch of one with its own 61 bytes of header stays below the brokers' default.
pub(crate) const MAX_RECORD_BYTES: usize = 1_048_000;

/// The headers of a record: metadata first, the user's own behind it.
pub(crate) fn headers(message: &Message) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(ATTRIBUTES + message.headers.len());
    let put = |headers: OwnedHeaders, name: &str, value: &[u8]| {
        headers.insert(Header { key: name, value: Some(value) })
    };
    let mut written = Some(headers);
    wire::write(message, PREFIX, |name, value| {
        let name = if name == CE_CONTENT_TYPE { CONTENT_TYPE } else { name };
        written = written.take().map(|headers| put(headers, name, value.as_bytes()));
    });
    headers = written.unwrap_or_default();
    for (name, value) in message.headers.iter() {
        headers = put(headers, name, value.as_bytes());
    }
    headers
}

/// A record as a client library hands it out.
pub(crate) struct Record<'r> {
    pub(crate) topic: &'r str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<&'r [u8]>,
    /// `None` is a tombstone, which reads as an empty payload.
    pub(crate) payload: Option<&'r [u8]>,
    /// When it was published, or appended, as the topic says.
    pub(crate) time: Timestamp,
}

/// Reads one record after another.
#[derive(Debug, Default)]
pub(crate) struct RecordReader {
    series: Series,
    payloads: Payloads,
}

impl RecordReader {
    /// The message of a record, whatever its headers hold. What it shares with others it shares within its batch.
    pub(crate) fn read<'h>(
        &mut self,
        record: &Record<'_>,
        batch: &mut BatchAttributes,
        headers: impl Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
    ) -> Message {
        let payload = self.payloads.copy(record.payload.unwrap_or_default());
        if let Some(it) = self.series.recognize(headers.clone(), record.key) {
            let mut message = Message::new(payload, it.id, it.time, batch.like(it.attributes));
            message.key = record.key.map(key);
            return message;
        }
        let named = named(headers);
        let mut message = read(record, payload, named.clone(), self.series.attributes());
        self.series.learn(named, &message);
        message.attributes = batch.like(&message.attributes);
        message
    }
}

fn key(bytes: &[u8]) -> Key {
    Key::from_bytes(Bytes::copy_from_slice(bytes))
}

fn read<'h>(
    record: &Record<'_>,
    payload: Bytes,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    like: Option<&Arc<Attributes>>,
) -> Message {
    let mut reader = Reader::new(PREFIX).like(like);
    let mut has_content_type = false;
    for (name, value) in headers {
        // The first is the message's; a user's header of the same name stands behind it.
        if name == CONTENT_TYPE
            && !has_content_type
            && let Ok(text) = std::str::from_utf8(value)
        {
            has_content_type = true;
            reader.content_type(text);
        } else {
            reader.borrowed_header(name, value);
        }
    }
    if let Some(bytes) = record.key {
        reader.key(key(bytes));
    }
    let position = format_args!("{}/{}", record.partition, record.offset);
    reader.finish(payload, record.topic, position, record.time)
}

/// Those headers whose names are text. A foreign publisher may send another; the message is delivered without it.
fn named<'h>(
    headers: impl Iterator<Item = (&'h [u8], &'h [u8])> + Clone,
) -> impl Iterator<Item = (&'h str, &'h [u8])> + Clone {
    headers.filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ductape_core::message::{DeadLetter, HeaderValue, IdSource, OCTET_STREAM, SessionRef};
    use proptest::prelude::*;
    use rdkafka::message::Headers as _;

    fn full() -> Message {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        let attributes =
            Attributes { source: "/shop".into(), event: "a:b".into(), content_type: "text/plain".into() };
        let mut message = Message::new("body", IdSource::new().next(time), time, Arc::new(attributes));
        message.key = Some("k\u{e9}y".into());
        message.headers =
            [("a", "1"), ("id", "2"), ("a", "3"), ("content-type", "mine")].into_iter().collect();
        message.headers.append("bytes", vec![0xff, 0x00]);
        let extensions = message.extensions_mut();
        extensions.session = Some(SessionRef { tag: "user-session".into(), subject: "42".into() });
        extensions.dead_letter = Some(DeadLetter {
            reason: "why".into(),
            attempts: 5,
            failed_at: time,
            destination: "orders".into(),
            group: "g".into(),
            position: "0/42".into(),
        });
        message
    }

    fn record<'r>(key: Option<&'r [u8]>, payload: Option<&'r [u8]>) -> Record<'r> {
        Record { topic: "orders", partition: 3, offset: 7, key, payload, time: Timestamp::from_micros(5) }
    }

    fn read<'h>(record: &Record<'_>, headers: impl Iterator<Item = (&'h str, &'h [u8])> + Clone) -> Message {
        RecordReader::default().read(
            record,
            &mut BatchAttributes::new(1),
            headers.map(|(name, value)| (name.as_bytes(), value)),
        )
    }

    fn each_header(headers: &OwnedHeaders) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        let get = |index| headers.get(index);
        (0..headers.count()).map(get).map(|header| (header.key, header.value.unwrap_or_default()))
    }

    fn read_back(message: &Message) -> Message {
        let headers = headers(message);
        let key = message.key.as_ref().map(Key::as_bytes);
        read(&record(key, Some(&message.payload)), each_header(&headers))
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let message = full();
        assert_eq!(read_back(&message), message);
    }

    #[test]
    fn messages_share_what_they_have_alike_and_nothing_else() {
        let (mut reader, mut batch) = (RecordReader::default(), BatchAttributes::new(100));
        let other: &[u8] = &[7; 2 * 16 * 1024];
        let payloads: [&[u8]; 6] = [b"a", b"", &other[..1000], other, b"b", &other[..1024]];
        let types: [&[u8]; 6] = [b"x", b"x", b"y", b"y", b"y", b"x"];
        for _ in 0..20 {
            let read: Vec<_> = payloads
                .iter()
                .zip(types)
                .map(|(payload, event)| {
                    reader.read(
                        &record(None, Some(payload)),
                        &mut batch,
                        [(&b"ce_type"[..], event)].into_iter(),
                    )
                })
                .collect();
            assert!(read.iter().map(|message| &message.payload[..]).eq(payloads));
            assert!(read.iter().map(|message| message.event().as_bytes()).eq(types));
            assert!(Arc::ptr_eq(&read[0].attributes, &read[1].attributes));
        }
    }

    #[test]
    fn headers_are_those_of_the_binding() {
        let headers = headers(&full());
        let names: Vec<_> = each_header(&headers).map(|(name, _)| name.to_owned()).collect();
        let attributes =
            ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type", "ce_partitionkey"];
        assert_eq!(&names[..attributes.len()], attributes);
    }

    #[test]
    fn a_record_without_key_headers_and_value_is_a_message() {
        let read = read(&record(None, None), std::iter::empty());
        assert_eq!((read.payload.len(), read.key.as_ref(), read.headers.len()), (0, None, 0));
        assert_eq!(
            (read.id.to_string(), read.source(), read.time.as_micros()),
            ("orders/3/7".into(), "orders", 5)
        );
        assert_eq!(read.content_type(), OCTET_STREAM);
    }

    #[test]
    fn a_key_that_is_no_text_is_kept() {
        let read = read(&record(Some(&[0xff, 0xfe]), Some(b"x")), std::iter::empty());
        assert_eq!(read.key.unwrap().as_bytes(), [0xff, 0xfe]);
    }

    #[test]
    fn a_header_whose_name_is_no_text_is_left_out() {
        let headers: [(&[u8], &[u8]); 2] = [(b"\xff", b"1"), (b"good", b"2")];
        let mut reader = RecordReader::default();
        for _ in 0..4 {
            let batch = &mut BatchAttributes::new(1);
            let read = reader.read(&record(None, Some(b"x")), batch, headers.into_iter());
            let names: Vec<_> = read.headers.iter().map(|(name, _)| name.to_string()).collect();
            assert_eq!(names, ["good"]);
        }
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z_-]{0,12}",
            Just("content-type".to_owned()),
            "(ce_)?(id|time|type|source|specversion|partitionkey|datacontenttype)",
            "dead-letter-(reason|attempts|failed-at)",
            "traceparent|tracestate|ductape-(session|subject)",
        ]
    }

    proptest! {
        #[test]
        fn whatever_a_record_holds_it_is_read_and_nothing_of_it_is_lost(
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
            payload in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)),
            headers in proptest::collection::vec((name(), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))), 0..8),
        ) {
            let given = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or_default()));
            let read = read(&record(key.as_deref(), payload.as_deref()), given);
            prop_assert_eq!(&read.payload[..], payload.as_deref().unwrap_or_default());
            if let Some(key) = key {
                prop_assert_eq!(read.key.as_ref().unwrap().as_bytes(), key);
            }
            for (name, value) in headers.iter().filter(|(name, _)| name.starts_with("x")) {
                let value = HeaderValue::from(value.clone().unwrap_or_default());
                prop_assert!(read.headers.iter().any(|(n, v)| n == name && *v == value));
            }
            // Written and read again it is the same message.
            prop_assert_eq!(read_back(&read), read);
        }
    }
}
