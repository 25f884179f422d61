//! Messages as AMQP carries them, by CloudEvents' AMQP binding: attributes are headers behind `cloudEvents:`, the
//! content type is the property of that name, the body is the payload.

use bytes::Bytes;
use ductape_core::message::{Attributes, FACTS_ROOM};
use ductape_core::wire::{self, Reader};
use ductape_core::{Error, ErrorKind, Message, MessageId, Timestamp};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use std::sync::Arc;

/// The largest message, as [`Message::size`] counts it: what RabbitMQ 4 takes unless told otherwise
/// (`max_message_size`, 16 MiB), less room for metadata.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024 - MAX_HEADER_BYTES;

/// The most bytes of a message's headers and metadata, the facts of a dead letter not counted: they travel in one frame,
/// and the server's `frame_max` is 128 KiB unless told otherwise.
pub const MAX_HEADER_BYTES: usize = 96 * 1024;

const PREFIX: &str = "cloudEvents:";
const CONTENT_TYPE: &str = "cloudEvents:datacontenttype";
const DELIVERY_COUNT: &str = "x-delivery-count";
/// What the server writes, in headers that are not the user's. It would write over those of the same names.
const SERVERS_OWN: [&str; 6] = [
    DELIVERY_COUNT,
    "x-acquired-count",
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
];
/// AMQP 0-9-1 §4.2.5.3: persistent.
const PERSISTENT: u8 = 2;

/// The properties of a message.
///
/// # Errors
/// `MESSAGE_TOO_LARGE` where headers and metadata do not fit a frame; `MESSAGE_INVALID` where a header has a name of the
/// server's.
pub(crate) fn properties(message: &Message) -> Result<BasicProperties, Error> {
    if let Some((name, _)) = message.headers.iter().find(|(name, _)| SERVERS_OWN.contains(name)) {
        return Err(Error::new(
            ErrorKind::MessageInvalid,
            format!("the header `{name}` is the server's own, and would be lost"),
        )
        .with_help("give the header another name"));
    }
    let mut headers = FieldTable::default();
    let mut bytes = 0;
    let mut put = |name: &str, value: &[u8]| {
        // Two lengths and a type.
        bytes += name.len() + value.len() + 6;
        headers.insert(ShortString::from(name), AMQPValue::LongString(LongString::from(value)));
    };
    let content_type = short(message.content_type());
    wire::write(message, PREFIX, |name, value| {
        if name != CONTENT_TYPE || content_type.is_none() {
            put(name, value.as_bytes());
        }
    });
    message.headers.iter().for_each(|(name, value)| put(name, value.as_bytes()));
    let most = MAX_HEADER_BYTES + if message.was_given_up() { FACTS_ROOM } else { 0 };
    if bytes > most {
        return Err(Error::new(
            ErrorKind::MessageTooLarge,
            format!("headers and metadata take {bytes} bytes, and RABBITMQ takes {most}"),
        )
        .with_help("put what is large into the payload"));
    }
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
    if let Some(content_type) = content_type {
        properties = properties.with_content_type(content_type);
    }
    if let Some(id) = message.id.with_text(short) {
        properties = properties.with_message_id(id);
    }
    Ok(properties)
}

/// A property holds at most 255 bytes. A longer content type travels as a header, where ids travel in any case.
fn short(text: &str) -> Option<ShortString> {
    (text.len() <= 255).then(|| ShortString::from(text))
}

/// A delivered message, and how often it was delivered before, by what its header says. `like` are the attributes of the one before it.
pub(crate) fn read(
    destination: &str,
    data: Vec<u8>,
    properties: &BasicProperties,
    received: Timestamp,
    like: Option<&Arc<Attributes>>,
) -> (Message, u32) {
    let mut reader = Reader::new(PREFIX).like(like);
    let mut before = 0;
    if let Some(headers) = properties.headers() {
        for (name, value) in headers.inner() {
            match name.as_str() {
                DELIVERY_COUNT => before = count(value),
                other if SERVERS_OWN.contains(&other) => {}
                name => match value {
                    AMQPValue::LongString(text) => reader.borrowed_header(name, text.as_bytes()),
                    value => reader.header(name, text(value)),
                },
            }
        }
    }
    if let Some(content_type) = properties.content_type() {
        reader.content_type(content_type.as_str());
    }
    let payload = Bytes::from(data);
    let foreign = || properties.message_id().as_ref().map(|id| id.to_string());
    let mut message = reader.finish(payload, destination, "", received);
    if is_made_up(&message.id, destination) {
        let id = foreign().unwrap_or_else(|| digest(&message.payload));
        message.id = MessageId::Text(id.into());
    }
    (message, before)
}

/// Whether the reader found no id.
fn is_made_up(id: &MessageId, destination: &str) -> bool {
    matches!(id, MessageId::Text(text) if text.strip_prefix(destination) == Some("/"))
}

/// An id for a message without one that is the same on every redelivery: AMQP tells nothing else of it. FNV-1a, 64
/// bits.
fn digest(payload: &[u8]) -> String {
    let hash = payload.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3_u64)
    });
    format!("fnv-{hash:016x}")
}

fn count(value: &AMQPValue) -> u32 {
    let count = match value {
        AMQPValue::LongLongInt(n) => *n,
        AMQPValue::LongInt(n) => i64::from(*n),
        AMQPValue::LongUInt(n) => i64::from(*n),
        AMQPValue::ShortInt(n) => i64::from(*n),
        AMQPValue::ShortUInt(n) => i64::from(*n),
        AMQPValue::ShortShortInt(n) => i64::from(*n),
        AMQPValue::ShortShortUInt(n) => i64::from(*n),
        _ => 0,
    };
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

/// A header's value as bytes. What is neither text nor bytes comes as other tools would print it.
fn text(value: &AMQPValue) -> Bytes {
    match value {
        AMQPValue::ByteArray(bytes) => Bytes::copy_from_slice(bytes.as_slice()),
        AMQPValue::ShortString(text) => Bytes::copy_from_slice(text.as_str().as_bytes()),
        AMQPValue::Boolean(value) => value.to_string().into(),
        AMQPValue::ShortShortInt(n) => n.to_string().into(),
        AMQPValue::ShortShortUInt(n) => n.to_string().into(),
        AMQPValue::ShortInt(n) => n.to_string().into(),
        AMQPValue::ShortUInt(n) => n.to_string().into(),
        AMQPValue::LongInt(n) => n.to_string().into(),
        AMQPValue::LongUInt(n) => n.to_string().into(),
        AMQPValue::LongLongInt(n) => n.to_string().into(),
        AMQPValue::Timestamp(n) => n.to_string().into(),
        AMQPValue::Float(n) => n.to_string().into(),
        AMQPValue::Double(n) => n.to_string().into(),
        AMQPValue::Void => Bytes::new(),
        other => format!("{other:?}").into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use ductape_core::message::{Headers, IdSource};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn message() -> Message {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        let attributes =
            Attributes { source: "/shop".into(), event: "a:b".into(), content_type: "text/plain".into() };
        let mut message =
            Message::new(vec![0, 255, 7], IdSource::new().next(time), time, Arc::new(attributes));
        message.key = Some("k\u{e9}y".into());
        message.headers = [("x-user", b"\xff\xfe".to_vec()), ("b", "\u{1f525}".as_bytes().to_vec())]
            .into_iter()
            .collect::<Headers>();
        message
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let message = message();
        let properties = properties(&message).unwrap();
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "text/plain");
        assert_eq!(*properties.delivery_mode(), Some(2));
        let (mut read, before) =
            read("orders", message.payload.to_vec(), &properties, Timestamp::default(), None);
        assert_eq!(before, 0);
        // A table has no order of its own.
        assert_eq!(read.headers.len(), 2);
        for (name, value) in message.headers.iter() {
            assert_eq!(read.headers.get(name), Some(value));
        }
        read.headers = message.headers.clone();
        assert_eq!(read, message);
    }

    #[test]
    fn what_the_server_counts_is_no_header() {
        let mut headers = FieldTable::default();
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(4));
        headers.insert("n".into(), AMQPValue::LongInt(-7));
        let properties = BasicProperties::default().with_headers(headers);
        let (message, before) = read("orders", b"x".to_vec(), &properties, Timestamp::default(), None);
        assert_eq!((before, message.headers.len()), (4, 1));
        assert_eq!(message.headers.get("n").unwrap().as_bytes(), b"-7");
    }

    #[test]
    fn a_count_beyond_all_numbers_is_the_highest() {
        for (value, expected) in [
            (AMQPValue::LongUInt(u32::MAX), u32::MAX),
            (AMQPValue::LongLongInt(i64::MAX), u32::MAX),
            (AMQPValue::LongLongInt(-1), 0),
        ] {
            assert_eq!(count(&value), expected, "{value:?}");
        }
    }

    #[test]
    fn a_header_of_the_servers_name_is_refused() {
        for name in SERVERS_OWN {
            let mut message = message();
            message.headers.insert(name, "mine");
            let error = properties(&message).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::MessageInvalid, "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_foreign_message_has_the_same_id_on_every_delivery() {
        let id = |properties: &BasicProperties, body: &str| {
            read("orders", body.into(), properties, Timestamp::default(), None).0.id.to_string()
        };
        let plain = BasicProperties::default();
        assert_eq!(id(&plain, "a"), id(&plain, "a"));
        assert_ne!(id(&plain, "a"), id(&plain, "b"));
        assert_eq!(id(&plain.with_message_id("m-1".into()), "a"), "m-1");
    }

    #[test]
    fn headers_beyond_a_frame_are_refused_with_the_limit() {
        let mut message = message();
        message.headers.insert("big", "x".repeat(MAX_HEADER_BYTES));
        let error = properties(&message).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MessageTooLarge);
        assert!(error.to_string().contains(&MAX_HEADER_BYTES.to_string()), "{error}");
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "\\PC{0,12}",
            "x-(delivery-count|acquired-count|death|first-death-reason)",
            "cloudEvents:(id|time|type|source|specversion|partitionkey|datacontenttype|traceparent|[a-z]{0,5})",
            "cloudEvents:(dead-letter-(reason|attempts|failed-at|group)|ductape-[a-z]{0,7})",
        ]
    }

    fn field() -> impl Strategy<Value = AMQPValue> {
        let text = || vec(any::<u8>(), 0..40).prop_map(|bytes| LongString::from(bytes.as_slice()));
        prop_oneof![
            text().prop_map(AMQPValue::LongString),
            ".{0,20}".prop_map(|text| AMQPValue::ShortString(ShortString::from(text.as_str()))),
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            any::<u8>().prop_map(AMQPValue::ShortShortUInt),
            any::<f64>().prop_map(AMQPValue::Double),
            any::<u64>().prop_map(AMQPValue::Timestamp),
            Just(AMQPValue::FieldTable(FieldTable::default())),
            Just(AMQPValue::Void),
        ]
    }

    /// What was read, with its headers in an order: a table has none.
    fn read_sorted(body: &[u8], properties: &BasicProperties) -> (Message, Vec<(String, Vec<u8>)>) {
        let (mut message, _) = read("orders", body.to_vec(), properties, Timestamp::default(), None);
        let headers = std::mem::take(&mut message.headers);
        let mut sorted: Vec<_> =
            headers.iter().map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).collect();
        sorted.sort();
        (message, sorted)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_a_delivery_holds_it_is_a_message_and_stays_the_same_when_it_is_written_again(
            body in vec(any::<u8>(), 0..60),
            fields in vec((name(), field()), 0..12),
            id in prop::option::of(".{0,30}"),
            content_type in prop::option::of("\\PC{0,30}"),
        ) {
            let mut headers = FieldTable::default();
            for (name, value) in fields {
                headers.insert(name.into(), value);
            }
            let mut native = BasicProperties::default().with_headers(headers);
            if let Some(id) = id {
                native = native.with_message_id(id.into());
            }
            if let Some(content_type) = content_type {
                native = native.with_content_type(content_type.into());
            }
            let (message, headers) = read_sorted(&body, &native);
            prop_assert_eq!(&message.payload[..], &body);
            let whole = headers.iter().map(|(name, value)| (name.as_str(), value.clone()));
            let again = Message { headers: whole.collect(), ..message.clone() };
            prop_assert_eq!(read_sorted(&body, &properties(&again).unwrap()), (message, headers));
        }
    }
}
