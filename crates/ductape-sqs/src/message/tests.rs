//! Every message is read as it was written, and every entry is one that SQS takes.

use super::*;
use aws_sdk_sqs::types::MessageAttributeValue;
use ductape_core::message::{Attributes as Shared, DeadLetter, Extensions, IdSource, SessionRef};
use proptest::prelude::*;

fn plain(payload: impl Into<Bytes>) -> Message {
    let time = Timestamp::from_micros(1_700_000_000_123_000);
    let shared = Shared { source: "/shop".into(), event: "a:b".into(), content_type: "text/plain".into() };
    Message::new(payload, IdSource::new().next(time), time, Arc::new(shared))
}

/// What a consumer gets of an entry, as the server hands it on.
fn delivered(entry: &SendMessageBatchRequestEntry) -> Native {
    let mut native = Native::builder()
        .message_id("m-1")
        .receipt_handle("r-1")
        .body(entry.message_body())
        .attributes(System::ApproximateReceiveCount, "1")
        .attributes(System::SentTimestamp, "1700000000999")
        .set_message_attributes(entry.message_attributes().cloned());
    if let Some(group) = entry.message_group_id() {
        native = native.attributes(System::MessageGroupId, group);
    }
    native.build()
}

/// The rules of the SQS API reference, "SendMessage", on what stands in an entry.
fn assert_legal(entry: &SendMessageBatchRequestEntry) {
    assert!(is_text(entry.message_body()));
    let none = std::collections::HashMap::new();
    let attributes = entry.message_attributes().unwrap_or(&none);
    assert!(attributes.len() <= 10, "{} attributes", attributes.len());
    for value in attributes.values() {
        match (value.string_value(), value.binary_value()) {
            (Some(text), None) => assert!(is_text(text), "{text:?}"),
            (None, Some(blob)) => assert!(!blob.as_ref().is_empty()),
            other => panic!("not one value: {other:?}"),
        }
    }
    for id in [entry.message_group_id(), entry.message_deduplication_id()].into_iter().flatten() {
        assert!(is_id(id), "{id:?}");
    }
}

fn sorted(message: &Message) -> Vec<(String, Vec<u8>)> {
    let pairs = message.headers.iter().map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort();
    pairs
}

/// Writes, hands over and reads; the message comes back with its headers, sorted.
fn assert_round_trip(message: &Message, fifo: bool) {
    let outgoing = write(message, fifo).unwrap();
    let counted = outgoing.bytes;
    let entry = outgoing.entry(3).unwrap();
    assert_legal(&entry);
    assert_eq!(counted, size(&entry), "what it counts");
    let read = read("orders", delivered(&entry), Timestamp::default()).unwrap();
    assert_eq!(sorted(&read.message), sorted(message));
    let headers = message.headers.clone();
    assert_eq!(Message { headers, ..read.message }, *message);
}

fn size(entry: &SendMessageBatchRequestEntry) -> usize {
    let value = |value: &MessageAttributeValue| {
        value.data_type().len()
            + value.string_value().map_or(0, str::len)
            + value.binary_value().map_or(0, |blob| blob.as_ref().len())
    };
    let attributes = entry.message_attributes().into_iter().flatten();
    entry.message_body().len() + attributes.map(|(name, of)| name.len() + value(of)).sum::<usize>()
}

fn full() -> Message {
    let mut message = plain("{}");
    message.key = Some("customer-789".into());
    message.headers = [("source-ip", "192.0.2.7"), ("id", "a user's own"), ("x:y", "")].into_iter().collect();
    *message.extensions_mut() = Extensions {
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        tracestate: Some("a=b".into()),
        session: Some(SessionRef { tag: "user-session".into(), subject: "42".into() }),
        dead_letter: Some(DeadLetter {
            reason: "why".into(),
            attempts: 5,
            failed_at: Timestamp::from_micros(1_700_000_001_000_000),
            destination: "orders".into(),
            group: "g".into(),
            position: "".into(),
        }),
        redrive_group: Some("g".into()),
    };
    message
}

#[test]
fn a_message_with_everything_fits_ten_attributes() {
    assert_round_trip(&full(), true);
    assert_round_trip(&full(), false);
}

#[test]
fn what_is_plain_is_plain_on_the_wire() {
    let mut message = plain(r#"{"total":1}"#);
    message.headers = [("source-ip", "192.0.2.7")].into_iter().collect();
    let entry = write(&message, false).unwrap().entry(0).unwrap();
    assert_eq!(entry.message_body(), r#"{"total":1}"#);
    let attributes = entry.message_attributes().unwrap();
    assert_eq!(attributes["source-ip"].string_value(), Some("192.0.2.7"));
    assert_eq!(attributes["type"].string_value(), Some("a:b"));
    assert!(!attributes.contains_key(attributes::PACKED) && !attributes.contains_key(attributes::BODY));
}

#[test]
fn headers_that_are_packed_keep_their_order() {
    let mut message = plain("x");
    message.headers = (0..100).map(|n| (format!("x-{n}"), n.to_string())).collect();
    let entry = write(&message, false).unwrap().entry(0).unwrap();
    let read = read("q", delivered(&entry), Timestamp::default()).unwrap();
    assert_eq!(read.message.headers, message.headers);
}

#[test]
fn a_largest_message_fits_as_a_dead_letter_and_a_binary_one_is_refused_with_the_reason() {
    let mut largest = full();
    let reason = "r".repeat(1024);
    if let Some(dead) = &mut largest.extensions_mut().dead_letter {
        dead.reason = reason.as_str().into();
    }
    largest.payload = vec![b'x'; MAX_MESSAGE_BYTES - largest.size() + largest.payload.len()].into();
    assert_eq!(largest.size(), MAX_MESSAGE_BYTES);
    assert!(write(&largest, true).is_ok());
    largest.payload = vec![0xff; MAX_MESSAGE_BYTES / 2].into();
    assert!(write(&largest, true).is_ok());
    largest.payload = vec![0xff; MAX_MESSAGE_BYTES - 1000].into();
    let error = write(&largest, true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MessageTooLarge);
    assert!(error.to_string().contains("base64"), "{error}");
}

#[test]
fn a_repeated_send_is_known_by_its_id_and_one_that_comes_back_is_not() {
    let mut message = plain("x");
    let sent = |message: &Message| deduplication(message);
    assert_eq!(sent(&message), message.id.to_string());
    let mut letter = full();
    letter.extensions_mut().redrive_group = None;
    assert_eq!(sent(&letter), sent(&letter));
    let mut later = letter.clone();
    if let Some(dead) = &mut later.extensions_mut().dead_letter {
        dead.failed_at = Timestamp::from_micros(1_700_000_009_000_000);
    }
    assert_ne!(sent(&letter), sent(&later));
    message.extensions_mut().redrive_group = Some("g".into());
    assert_ne!(sent(&message), sent(&message));
}

#[test]
fn a_foreign_message_of_a_fifo_queue_has_its_group_as_key() {
    let native = Native::builder()
        .message_id("m-1")
        .receipt_handle("r")
        .body("text")
        .attributes(System::MessageGroupId, "customer-1")
        .attributes(System::ApproximateReceiveCount, "3")
        .build();
    let read = read("q", native, Timestamp::from_micros(5)).unwrap();
    assert_eq!(read.message.key, Some("customer-1".into()));
    assert_eq!((read.message.id.to_string().as_str(), read.attempt), ("q/m-1", 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_message_is_read_as_it_was_written(
        payload: Vec<u8>,
        key in proptest::option::of("\\PC{1,200}"),
        content_type in ".{0,20}",
        subject in ".{0,20}",
        headers in proptest::collection::btree_map("[!-~]{1,30}", proptest::collection::vec(any::<u8>(), 0..20), 0..14),
        fifo: bool,
    ) {
        // What the guard keeps away from providers.
        let reserved = |name: &str| {
            ductape_core::wire::RESERVED_NAMES.contains(&name)
                || ductape_core::wire::RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        };
        let mut message = plain(payload);
        message.attributes = Arc::new(Shared { content_type: content_type.into(), ..(*message.attributes).clone() });
        message.key = key.map(|key| key.as_str().into());
        message.headers = headers.into_iter().filter(|(name, _)| !reserved(name)).collect();
        message.extensions_mut().session = Some(SessionRef { tag: "s".into(), subject: subject.into() });
        assert_round_trip(&message, fifo);
    }

    #[test]
    fn any_text_is_read_as_it_was_written(payload in ".{0,200}") {
        assert_round_trip(&plain(payload), false);
    }
}
