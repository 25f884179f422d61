//! Messages as Pub/Sub carries them, by CloudEvents' binding for it
//! (<https://github.com/googleapis/google-cloudevents/blob/main/docs/spec/pubsub.md>): the payload is the data,
//! metadata are attributes behind `ce-`, headers are attributes. What attributes cannot hold is [packed](crate::pack).

use crate::pack;
use crate::protocol::{Attribute, PubsubMessage, Time};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ductape_core::message::HeaderValue;
use ductape_core::wire::{self, Reader};
use ductape_core::{Error, ErrorKind, Key, Message, Timestamp};
use prost::Message as _;
use std::collections::HashSet;

/// What a request may weigh (<https://cloud.google.com/pubsub/quotas#resource_limits>): 10 MB.
pub(crate) const MAX_REQUEST_BYTES: usize = 10_000_000;
/// The largest message, as [`Message::size`] counts it: what a request may weigh, less room for metadata.
pub const MAX_MESSAGE_BYTES: usize = MAX_REQUEST_BYTES - 64 * 1024;

const PREFIX: &str = "ce-";
const KEY: &str = "ce-partitionkey";
const CONTENT_TYPE: &str = "ce-datacontenttype";
/// What the binding has for messages without [`CONTENT_TYPE`].
const PLAIN_CONTENT_TYPE: &str = "content-type";
/// Room for what a request holds besides one message: the topic's name and lengths.
const REQUEST_OVERHEAD: usize = 1024;
/// Attributes that the facts of a dead letter take: each its own, and a reason that does not fit one several.
const FACTS: usize = 12;

/// A message as it is published. Only an ordered destination has ordering keys, since they slow a topic down.
///
/// # Errors
/// `MESSAGE_TOO_LARGE` where headers do not fit the attributes, or all of it not a request.
pub(crate) fn write(message: &Message, ordered: bool) -> Result<PubsubMessage, Error> {
    let key = message.key.as_ref();
    let written = PubsubMessage {
        data: message.payload.clone(),
        attributes: attributes(message)?,
        ordering_key: key.filter(|_| ordered).map_or_else(String::new, ordering_key),
        ..PubsubMessage::default()
    };
    let bytes = written.encoded_len() + REQUEST_OVERHEAD;
    if bytes <= MAX_REQUEST_BYTES {
        return Ok(written);
    }
    let text = format!(
        "the message takes {bytes} bytes with its metadata, and GOOGLE_PUBSUB takes {MAX_REQUEST_BYTES}"
    );
    Err(Error::new(ErrorKind::MessageTooLarge, text)
        .with_help("put what is large elsewhere, and its address here"))
}

/// The key as text. Keys that are not text are published by no user: they come from another provider by a bridge.
fn ordering_key(key: &Key) -> String {
    key.as_str().map_or_else(|| URL_SAFE_NO_PAD.encode(key.as_bytes()), str::to_owned)
}

fn attributes(message: &Message) -> Result<Vec<Attribute>, Error> {
    let (mut direct, mut packed) = (Vec::with_capacity(8 + message.headers.len()), Vec::new());
    wire::write(message, PREFIX, |name, value| {
        if pack::fits(name, value.as_bytes()) {
            direct.push(Attribute { name: name.to_owned(), value: value.to_owned() });
        } else {
            packed.push((name.to_owned(), Bytes::copy_from_slice(value.as_bytes())));
        }
    });
    if let Some(key) = message.key.as_ref().filter(|key| key.as_str().is_none()) {
        packed.push((KEY.to_owned(), Bytes::copy_from_slice(key.as_bytes())));
    }
    let metadata = direct.len();
    let most = pack::MAX_ATTRIBUTES - if message.was_given_up() { 0 } else { FACTS };
    let mut names = HashSet::with_capacity(message.headers.len());
    for (name, value) in message.headers.iter() {
        match value.as_str().filter(|_| direct.len() < most) {
            // The first of its name, so that those of one name keep their order.
            Some(text) if names.insert(name) && pack::fits(name, value.as_bytes()) => {
                direct.push(Attribute { name: name.to_owned(), value: text.to_owned() });
            }
            _ => {
                names.insert(name);
                packed.push((name.to_owned(), value.clone().into_bytes()));
            }
        }
    }
    make_room(direct, packed, metadata, most)
}

/// Packs further headers until all fit the allowed number of attributes.
fn make_room(
    mut direct: Vec<Attribute>,
    mut packed: Vec<(String, Bytes)>,
    metadata: usize,
    most: usize,
) -> Result<Vec<Attribute>, Error> {
    loop {
        let pieces = pack::pack(&packed);
        if direct.len() + pieces.len() <= most {
            direct.extend(pieces);
            return Ok(direct);
        }
        if direct.len() == metadata {
            let bytes: usize = pieces.iter().map(|piece| piece.value.len()).sum();
            let room = (most - metadata) * 1024;
            let text = format!("headers take {bytes} bytes as attributes, and GOOGLE_PUBSUB takes {room}");
            return Err(
                Error::new(ErrorKind::MessageTooLarge, text).with_help("put what is large into the payload")
            );
        }
        // In front, so that headers of one name keep their order.
        let over = (direct.len() + pieces.len() - most).min(direct.len() - metadata);
        let moved = direct.split_off(direct.len() - over);
        packed.splice(0..0, moved.into_iter().map(|it| (it.name, Bytes::from(it.value))));
    }
}

/// A delivered message.
pub(crate) fn read(destination: &str, delivered: PubsubMessage, received: Timestamp) -> Message {
    let mut reader = Reader::new(PREFIX);
    if !delivered.ordering_key.is_empty() {
        reader.key(delivered.ordering_key.into());
    }
    let has_type = delivered.attributes.iter().any(|it| it.name == CONTENT_TYPE);
    let mut pieces = Vec::new();
    for Attribute { name, value } in &delivered.attributes {
        match pack::number(name) {
            Some(number) => pieces.push((number, value.as_str())),
            None if !has_type && name == PLAIN_CONTENT_TYPE => reader.content_type(value),
            None => reader.header(name, value.as_str()),
        }
    }
    match pack::unpack(pieces.clone()) {
        Some(pairs) => pairs.into_iter().for_each(|(name, value)| unpacked(&mut reader, &name, value)),
        None => pieces
            .into_iter()
            .for_each(|(number, value)| reader.header(&format!("{}{number}", pack::PREFIX), value)),
    }
    let published = delivered.publish_time.and_then(timestamp).unwrap_or(received);
    reader.finish(delivered.data, destination, &delivered.message_id, published)
}

fn unpacked(reader: &mut Reader<'_>, name: &str, value: Bytes) {
    if name == KEY && std::str::from_utf8(&value).is_err() {
        reader.key(Key::from_bytes(value));
    } else {
        reader.header(name, HeaderValue::from(value));
    }
}

fn timestamp(time: Time) -> Option<Timestamp> {
    let micros = time.seconds.checked_mul(1_000_000)?.checked_add(i64::from(time.nanos) / 1_000)?;
    Some(Timestamp::from_micros(micros))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use ductape_core::message::{Attributes, Headers, IdSource};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn message() -> Message {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        let attributes =
            Attributes { source: "/shop".into(), event: "a:b".into(), content_type: "text/plain".into() };
        let mut message =
            Message::new(vec![0, 255, 7], IdSource::new().next(time), time, Arc::new(attributes));
        message.key = Some("k\u{e9}y".into());
        message
    }

    fn with_headers(headers: impl IntoIterator<Item = (String, Vec<u8>)>) -> Message {
        Message { headers: headers.into_iter().collect::<Headers>(), ..message() }
    }

    fn back(written: PubsubMessage) -> Message {
        read("orders", written, Timestamp::default())
    }

    /// Every name with its values in their order: attributes are a map, whose names have none.
    fn by_name(message: &Message) -> std::collections::BTreeMap<&str, Vec<&[u8]>> {
        let mut all = std::collections::BTreeMap::<_, Vec<_>>::new();
        for (name, value) in message.headers.iter() {
            all.entry(name).or_default().push(value.as_bytes());
        }
        all
    }

    #[test]
    fn metadata_are_attributes_of_cloud_events() {
        let message = message();
        let written = write(&message, true).unwrap();
        let get =
            |name: &str| written.attributes.iter().find(|it| it.name == name).map(|it| it.value.as_str());
        assert_eq!(get("ce-specversion"), Some("1.0"));
        assert_eq!(get("ce-type"), Some("a:b"));
        assert_eq!(get("ce-datacontenttype"), Some("text/plain"));
        assert_eq!((&*written.data, &*written.ordering_key), (&[0, 255, 7][..], "k\u{e9}y"));
        assert_eq!(back(written), message);
    }

    #[test]
    fn only_an_ordered_destination_has_ordering_keys() {
        let written = write(&message(), false).unwrap();
        assert_eq!(written.ordering_key, "");
        assert_eq!(back(written).key, message().key);
    }

    #[test]
    fn a_foreign_message_is_read_by_the_binding() {
        let attribute = |name: &str, value: &str| Attribute { name: name.into(), value: value.into() };
        let foreign = PubsubMessage {
            data: "{}".into(),
            attributes: vec![attribute("content-type", "application/json"), attribute("a", "1")],
            message_id: "42".into(),
            publish_time: Some(Time { seconds: 3, nanos: 5_000 }),
            ordering_key: "k".into(),
        };
        let message = back(foreign.clone());
        assert_eq!(message.id.to_string(), "orders/42");
        assert_eq!((message.content_type(), message.headers.len()), ("application/json", 1));
        assert_eq!((message.time, message.key), (Timestamp::from_micros(3_000_005), Some("k".into())));
        assert_eq!(back(foreign.clone()).id, back(foreign).id);
    }

    #[test]
    fn a_header_called_content_type_stays_one() {
        let message = with_headers([("content-type".to_owned(), b"mine".to_vec())]);
        assert_eq!(back(write(&message, true).unwrap()), message);
    }

    #[test]
    fn a_key_that_is_no_text_survives() {
        let message = Message { key: Some(Key::from_bytes(vec![0xff, 0xfe])), ..message() };
        let written = write(&message, true).unwrap();
        assert!(!written.ordering_key.is_empty());
        assert_eq!(back(written), message);
    }

    #[test]
    fn pieces_that_are_not_ours_stay_headers() {
        let name = format!("{}3", pack::PREFIX);
        let foreign = PubsubMessage {
            attributes: vec![Attribute { name: name.clone(), value: "what".into() }],
            ..PubsubMessage::default()
        };
        assert_eq!(back(foreign).headers.get(&name).unwrap().as_bytes(), b"what");
    }

    #[test]
    fn headers_beyond_all_attributes_are_refused_with_the_limit() {
        let error = write(&with_headers([("big".to_owned(), vec![b'x'; 100_000])]), true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MessageTooLarge);
        assert!(error.message().contains("82944"), "{error}");
    }

    #[test]
    fn what_outgrows_a_request_by_its_metadata_is_refused() {
        let mut message = with_headers([("big".to_owned(), vec![b'x'; 60_000])]);
        message.payload = vec![0; MAX_MESSAGE_BYTES - 60_000].into();
        assert!(write(&message, false).is_ok());
        message.payload = vec![0; MAX_REQUEST_BYTES].into();
        assert_eq!(write(&message, false).unwrap_err().kind(), ErrorKind::MessageTooLarge);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_message_is_read_as_it_was_written(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            key in prop::option::of(prop::collection::vec(any::<u8>(), 1..50)),
            headers in prop::collection::vec(("h[a-z]{0,3}", prop::collection::vec(any::<u8>(), 0..60)), 0..150),
            ordered: bool,
        ) {
            let mut message = with_headers(headers);
            message.payload = payload.into();
            message.key = key.map(Key::from_bytes);
            let written = write(&message, ordered).unwrap();
            prop_assert!(written.attributes.len() <= pack::MAX_ATTRIBUTES);
            prop_assert!(written.attributes.iter().all(|it| pack::fits(&it.name, it.value.as_bytes())));
            let read = back(written);
            prop_assert_eq!(by_name(&read), by_name(&message));
            prop_assert_eq!((&read.payload, &read.key, &read.id), (&message.payload, &message.key, &message.id));
        }
    }
}
