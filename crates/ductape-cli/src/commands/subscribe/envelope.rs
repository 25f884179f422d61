//! A delivery as one line of JSON.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ductape::message::{HeaderValue, Headers};
use ductape::{Delivery, Key, Message};
use serde::de::IgnoredAny;
use std::io::Write;

/// Appends `{"id","event","time","key","attempt","headers","message"}` and a line end. `event` is what was subscribed to,
/// for messages that do not say which they are.
pub(crate) fn push_delivery(into: &mut Vec<u8>, delivery: &Delivery, event: &str) {
    push_head(into, &delivery.message, event);
    push_raw(into, format_args!(",\"attempt\":{}", delivery.attempt));
    push_tail(into, &delivery.message);
    into.extend_from_slice(b"}\n");
}

/// The part before `attempt`, without the end of the object.
pub(crate) fn push_head(into: &mut Vec<u8>, message: &Message, event: &str) {
    into.extend_from_slice(b"{\"id\":");
    push_text(into, &message.id.to_string());
    into.extend_from_slice(b",\"event\":");
    push_text(into, if message.event().is_empty() { event } else { message.event() });
    push_raw(into, format_args!(",\"time\":\"{}\",\"key\":", message.time));
    match message.key.as_ref().map(Key::as_bytes) {
        Some(key) => push_bytes(into, key),
        None => into.extend_from_slice(b"null"),
    }
}

/// The part after `attempt`.
pub(crate) fn push_tail(into: &mut Vec<u8>, message: &Message) {
    into.extend_from_slice(b",\"headers\":");
    push_headers(into, &message.headers);
    into.extend_from_slice(b",\"message\":");
    push_payload(into, &message.payload);
}

fn push_headers(into: &mut Vec<u8>, headers: &Headers) {
    into.push(b'{');
    for (index, (name, value)) in headers.iter().enumerate() {
        if headers.iter().take(index).any(|(earlier, _)| earlier == name) {
            continue;
        }
        if index > 0 {
            into.push(b',');
        }
        push_text(into, name);
        into.push(b':');
        let values: Vec<_> =
            headers.iter().filter(|(other, _)| *other == name).map(|(_, value)| value).collect();
        match values.as_slice() {
            // A name that stands once, as nearly all do.
            [_] => push_bytes(into, value.as_bytes()),
            values => push_list(into, values),
        }
    }
    into.push(b'}');
}

fn push_list(into: &mut Vec<u8>, values: &[&HeaderValue]) {
    into.push(b'[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            into.push(b',');
        }
        push_bytes(into, value.as_bytes());
    }
    into.push(b']');
}

/// JSON as it is, on one line; of anything else its text or bytes. What the content type says does not matter: many
/// publishers say nothing, or what is not so.
fn push_payload(into: &mut Vec<u8>, payload: &[u8]) {
    let text = std::str::from_utf8(payload).ok();
    match text.filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok()) {
        // Outside of texts a line end is white space, and within them it is not allowed (RFC 8259 §7).
        Some(_) if payload.iter().any(|byte| matches!(byte, b'\n' | b'\r')) => {
            let on_one_line = |byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
            into.extend(payload.iter().map(on_one_line));
        }
        Some(_) => into.extend_from_slice(payload),
        None => push_bytes(into, payload),
    }
}

/// A text, or `{"$base64":"…"}` of what is none.
fn push_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => push_text(into, text),
        Err(_) => push_raw(into, format_args!("{{\"$base64\":\"{}\"}}", BASE64_STANDARD.encode(bytes))),
    }
}

fn push_text(into: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail, and neither does a text as JSON.
    let _ = serde_json::to_writer(into, text);
}

fn push_raw(into: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = into.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ductape::message::Attributes;
    use ductape::{MessageId, Position, Timestamp, Token};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn line(payload: &[u8], change: impl FnOnce(&mut Message)) -> Value {
        let attributes = Attributes { source: "/s".into(), event: "a:b".into(), content_type: "x".into() };
        let (id, time) = (MessageId::parse("1\"2"), Timestamp::from_micros(1_500_000));
        let mut message = Message::new(payload.to_vec(), id, time, Arc::new(attributes));
        change(&mut message);
        let (position, token) = (Position::Sequence(0), Token::Numbers(0, 0));
        let delivery = Delivery { message, attempt: 2, position, token };
        let mut line = Vec::new();
        push_delivery(&mut line, &delivery, "c:d");
        let text = String::from_utf8(line).unwrap();
        assert_eq!((text.matches('\n').count(), text.ends_with('\n')), (1, true), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_delivery_is_one_object_on_one_line() {
        let value = line(b"{\n \"a\": \"\\n\"\r\n}", |message| {
            message.key = Some("k".into());
            message.headers = [("h", "1"), ("g", "2"), ("h", "3")].into_iter().collect();
        });
        let expected = json!({
            "id": "1\"2", "event": "a:b", "time": "1970-01-01T00:00:01.5Z", "key": "k", "attempt": 2,
            "headers": { "h": ["1", "3"], "g": "2" }, "message": { "a": "\n" },
        });
        assert_eq!(value, expected);
        let names: Vec<_> = value.as_object().unwrap().keys().collect();
        assert_eq!(names, ["id", "event", "time", "key", "attempt", "headers", "message"]);
    }

    #[test]
    fn what_is_no_json_is_a_text_or_its_bytes() {
        assert_eq!(line(b"plain", |_| ())["message"], json!("plain"));
        assert_eq!(line(b"\xff\x00", |_| ())["message"], json!({ "$base64": "/wA=" }));
        assert_eq!(line(b"", |_| ())["message"], json!(""));
        assert_eq!(line(b"1", |_| ())["key"], Value::Null);
    }

    proptest! {
        #[test]
        fn any_payload_is_one_line(payload in prop::collection::vec(any::<u8>(), 0..40)) {
            line(&payload, |_| ());
        }
    }
}
