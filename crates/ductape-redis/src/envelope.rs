//! Messages as pub/sub carries them, which has room for one value only: CloudEvents' JSON format (v1.0, §3), with the
//! user's headers as pairs in `headers`.
//!
//! JSON stands in `data` as it was given; other text as a string; what is neither, in `data_base64`. What is not
//! such an event is a foreign message, and its bytes are the payload.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ductape_core::message::{Extensions, HeaderValue};
use ductape_core::wire::{self, Reader};
use ductape_core::{Key, Message, Timestamp};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const DATA: &str = "data";
const DATA_BASE64: &str = "data_base64";
const HEADERS: &str = "headers";
const KEY_BASE64: &str = "partitionkey_base64";
const BASE64: &str = "base64";

/// A message as one value.
pub(crate) fn write(message: &Message) -> Vec<u8> {
    let mut event = Map::new();
    wire::write(message, "", |name, value| drop(event.insert(name.into(), value.into())));
    if let Some(key) = message.key.as_ref().filter(|key| key.as_str().is_none()) {
        event.insert(KEY_BASE64.into(), STANDARD.encode(key.as_bytes()).into());
    }
    if !message.headers.is_empty() {
        let pairs =
            message.headers.iter().map(|(name, value)| Value::Array(vec![name.into(), header(value)]));
        event.insert(HEADERS.into(), pairs.collect());
    }
    let payload = &message.payload[..];
    match std::str::from_utf8(payload) {
        Ok(_) if is_json(message.content_type()) && is_exact_json(payload) => {
            return with_data(event, payload);
        }
        Ok(text) if !is_json(message.content_type()) => drop(event.insert(DATA.into(), text.into())),
        _ => drop(event.insert(DATA_BASE64.into(), STANDARD.encode(payload).into())),
    }
    Value::Object(event).to_string().into_bytes()
}

fn header(value: &HeaderValue) -> Value {
    match value.as_str() {
        Some(text) => text.into(),
        None => Map::from_iter([(BASE64.to_owned(), STANDARD.encode(value.as_bytes()).into())]).into(),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence == ductape_core::message::JSON || essence.ends_with("+json")
}

/// Whether it may stand within JSON and be found again byte for byte.
fn is_exact_json(payload: &[u8]) -> bool {
    payload.trim_ascii().len() == payload.len() && serde_json::from_slice::<IgnoredAny>(payload).is_ok()
}

fn with_data(event: Map<String, Value>, payload: &[u8]) -> Vec<u8> {
    let mut written = Value::Object(event).to_string().into_bytes();
    written.pop();
    written.reserve(payload.len() + DATA.len() + 5);
    written.extend_from_slice(b",\"data\":");
    written.extend_from_slice(payload);
    written.push(b'}');
    written
}

/// The message that a value holds, whoever published it. `position` is unique.
pub(crate) fn read(value: Vec<u8>, destination: &str, position: u64, received: Timestamp) -> Message {
    match event(&value, destination, position, received) {
        Some(message) => message,
        None => Reader::new("").finish(Bytes::from(value), destination, position, received),
    }
}

fn event(value: &[u8], destination: &str, position: u64, received: Timestamp) -> Option<Message> {
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_slice(value).ok()?;
    let version: String = serde_json::from_str(fields.get("specversion")?.get()).ok()?;
    if version != wire::SPEC_VERSION {
        return None;
    }
    let data = fields.remove(DATA);
    let encoded = fields.remove(DATA_BASE64).and_then(decoded);
    let headers = fields.remove(HEADERS);
    let key = fields.remove(KEY_BASE64).and_then(decoded);
    let mut reader = Reader::new("");
    for (name, value) in fields {
        // CloudEvents allows numbers and booleans too; those are headers as they are written.
        let text = serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned());
        reader.header(&name, text);
    }
    if let Some(key) = key {
        reader.key(Key::from_bytes(key));
    }
    let mut message = reader.finish(Bytes::new(), destination, position, received);
    message.payload = match (encoded, data) {
        (Some(bytes), _) => bytes.into(),
        (None, Some(data)) => payload(data, message.content_type()),
        (None, None) => Bytes::new(),
    };
    message.extensions = message.extensions.filter(|it| **it != Extensions::default());
    for (name, value) in headers.map(pairs).unwrap_or_default() {
        message.headers.append(name, value);
    }
    Some(message)
}

fn payload(data: &RawValue, content_type: &str) -> Bytes {
    let text = if is_json(content_type) { None } else { serde_json::from_str::<String>(data.get()).ok() };
    text.unwrap_or_else(|| data.get().to_owned()).into()
}

fn pairs(headers: &RawValue) -> Vec<(String, Vec<u8>)> {
    let pairs: Vec<(String, Value)> = serde_json::from_str(headers.get()).unwrap_or_default();
    let bytes = |value: Value| match value {
        Value::String(text) => Some(text.into_bytes()),
        other => STANDARD.decode(other.get(BASE64)?.as_str()?).ok(),
    };
    pairs.into_iter().filter_map(|(name, value)| Some((name, bytes(value)?))).collect()
}

fn decoded(text: &RawValue) -> Option<Vec<u8>> {
    STANDARD.decode(serde_json::from_str::<String>(text.get()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use ductape_core::message::{Attributes, IdSource, JSON, OCTET_STREAM, SessionRef};
    use std::sync::Arc;

    fn message(content_type: &str, payload: &[u8]) -> Message {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        let attributes =
            Attributes { source: "/s".into(), event: "a:b".into(), content_type: content_type.into() };
        Message::new(payload.to_vec(), IdSource::new().next(time), time, Arc::new(attributes))
    }

    fn read_back(message: &Message) -> Message {
        read(write(message), "orders", 1, Timestamp::default())
    }

    #[test]
    fn every_payload_is_read_as_it_was_written() {
        let payloads: [&[u8]; 7] =
            [b"", b"{\"a\": 1.50}", b" {}", b"not json", b"\xff\x00", b"\"text\"", "\u{1f525}".as_bytes()];
        for content_type in [JSON, OCTET_STREAM, "text/plain", "application/cloudevents+json; charset=utf-8"]
        {
            for payload in payloads {
                let message = message(content_type, payload);
                assert_eq!(read_back(&message), message, "{content_type} {payload:?}");
            }
        }
    }

    #[test]
    fn headers_key_and_extensions_travel() {
        let mut message = message(JSON, b"{}");
        for (name, value) in [("id", b"1".to_vec()), ("x", vec![0xff]), ("x", b"2".to_vec())] {
            message.headers.append(name, value);
        }
        message.key = Some(Key::from_bytes(vec![0xfe]));
        message.extensions_mut().session = Some(SessionRef { tag: "t".into(), subject: "s".into() });
        assert_eq!(read_back(&message), message);
    }

    #[test]
    fn json_stands_as_json() {
        let written = String::from_utf8(write(&message(JSON, b"{\"a\":1}"))).unwrap();
        assert!(written.starts_with("{\"specversion\":\"1.0\"") && written.ends_with(",\"data\":{\"a\":1}}"));
    }

    #[test]
    fn what_is_no_event_is_a_payload() {
        for value in ["plain", "{\"a\":1}", "{\"specversion\":\"0.3\",\"id\":\"1\"}", "{\"specversion\":1}"] {
            let read = read(value.as_bytes().to_vec(), "orders", 7, Timestamp::default());
            assert_eq!((&read.payload[..], read.id.to_string()), (value.as_bytes(), "orders/7".to_owned()));
        }
    }
}
