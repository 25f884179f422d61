//! Metadata and headers as SQS carries them: ten attributes with names of its own kind, none empty.
//!
//! ```text
//!  metadata ─┬─ one attribute each, while there is room and SQS takes name and value
//!            └─ the rest ┐
//!  headers ──┬─ one attribute each, where all of them fit
//!            └─ else all ┴─▶ `ductape-packed`: {"metadata":[["name","text"],…],"headers":[["name","text"],…]}
//! ```
//!
//! A value that is no text is a Binary attribute, or `{"base64":"…"}` where it is packed.

use aws_sdk_sqs::types::MessageAttributeValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ductape_core::message::HeaderValue;
use ductape_core::wire::{self, Reader};
use ductape_core::{Headers, Message};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The most attributes of a message (SQS Developer Guide, "Message attributes").
const MAX_ATTRIBUTES: usize = 10;
/// The longest name of an attribute.
const MAX_NAME: usize = 256;
/// What holds what has no attribute of its own.
pub(crate) const PACKED: &str = "ductape-packed";
/// How the body stands for the payload, where it is not the payload itself.
pub(crate) const BODY: &str = "ductape-body";
/// The names of metadata, which no plain header may have.
const METADATA: [&str; 7] =
    ["specversion", "id", "source", "type", "time", "datacontenttype", "partitionkey"];
const STRING: &str = "String";
const BINARY: &str = "Binary";

pub(crate) type Attributes = HashMap<String, MessageAttributeValue>;

/// Attributes, and what they count against the limit on a message.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) attributes: Attributes,
    pub(crate) bytes: usize,
}

/// The attributes of a message. `body` is the value of [`BODY`] where there is one.
pub(crate) fn write(message: &Message, body: Option<&str>) -> Written {
    let mut written = Written::default();
    let mut left_over = Vec::new();
    if let Some(body) = body {
        written.put_text(BODY, body);
    }
    let more = message.headers.len() + message.extensions.as_ref().map_or(0, |_| 1);
    // Seven are the metadata of every message; only what has more may need the place of the packed one.
    let room = if more == 0 { MAX_ATTRIBUTES } else { MAX_ATTRIBUTES - 1 };
    wire::write(message, "", |name, value| {
        if written.attributes.len() < room && is_text(value) {
            written.put_text(name, value);
        } else {
            left_over.push((name.to_owned(), value.to_owned()));
        }
    });
    let headers = &message.headers;
    let room = MAX_ATTRIBUTES - written.attributes.len() - usize::from(!left_over.is_empty());
    if headers.len() <= room && headers.iter().all(|(name, value)| is_plain(name, value)) && distinct(headers)
    {
        headers.iter().for_each(|(name, value)| written.put_header(name, value));
        written.pack(&left_over, &Headers::default());
    } else {
        written.pack(&left_over, headers);
    }
    written
}

impl Written {
    fn put_text(&mut self, name: &str, value: &str) {
        self.bytes += name.len() + STRING.len() + value.len();
        let value = MessageAttributeValue::builder().data_type(STRING).string_value(value);
        self.put(name, value);
    }

    fn put_header(&mut self, name: &str, value: &HeaderValue) {
        match value.as_str().filter(|text| is_text(text)) {
            Some(text) => self.put_text(name, text),
            None => {
                self.bytes += name.len() + BINARY.len() + value.as_bytes().len();
                let blob = aws_smithy_types::Blob::new(value.as_bytes());
                self.put(name, MessageAttributeValue::builder().data_type(BINARY).binary_value(blob));
            }
        }
    }

    fn put(&mut self, name: &str, value: aws_sdk_sqs::types::builders::MessageAttributeValueBuilder) {
        // A value with a type is always built.
        if let Ok(value) = value.build() {
            self.attributes.insert(name.to_owned(), value);
        }
    }

    fn pack(&mut self, metadata: &[(String, String)], headers: &Headers) {
        if metadata.is_empty() && headers.is_empty() {
            return;
        }
        let metadata: Vec<Value> = metadata.iter().map(|(name, value)| json!([name, value])).collect();
        let headers: Vec<Value> =
            headers.iter().map(|(name, value)| json!([name, packed_value(value)])).collect();
        let mut packed = serde_json::Map::new();
        if !metadata.is_empty() {
            packed.insert("metadata".into(), metadata.into());
        }
        if !headers.is_empty() {
            packed.insert("headers".into(), headers.into());
        }
        // JSON escapes control characters; these two it lets stand, and SQS does not.
        let text = Value::Object(packed).to_string();
        let text = text.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff");
        self.put_text(PACKED, &text);
    }
}

fn packed_value(value: &HeaderValue) -> Value {
    match value.as_str() {
        Some(text) => json!(text),
        None => json!({ "base64": STANDARD.encode(value.as_bytes()) }),
    }
}

/// Whether a header may be an attribute of its own.
fn is_plain(name: &str, value: &HeaderValue) -> bool {
    is_name(name) && !METADATA.contains(&name) && !value.as_bytes().is_empty()
}

fn distinct(headers: &Headers) -> bool {
    headers.iter().enumerate().all(|(i, (name, _))| headers.iter().take(i).all(|(other, _)| other != name))
}

/// SQS Developer Guide, "Message attribute components".
fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let lower = || name.to_ascii_lowercase();
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(legal)
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains("..")
        && !lower().starts_with("aws.")
        && !lower().starts_with("amazon.")
}

/// Whether SQS takes this as a body or a String value: not empty, and of the characters of XML 1.0 alone.
pub(crate) fn is_text(text: &str) -> bool {
    let control = |byte: u8| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r');
    let bytes = text.as_bytes();
    // U+FFFE and U+FFFF are the only others, and are seldom even looked for.
    let beyond = || bytes.contains(&0xef) && text.contains(['\u{fffe}', '\u{ffff}']);
    !(bytes.is_empty() || bytes.iter().any(|byte| control(*byte)) || beyond())
}

/// What was read of the attributes beside what went to the reader.
#[derive(Default)]
pub(crate) struct Read {
    /// The value of [`BODY`].
    pub(crate) body: Option<String>,
    /// Headers that were packed, whatever their names.
    pub(crate) headers: Headers,
}

/// Hands attributes to the reader, by name, since SQS keeps no order.
pub(crate) fn read(attributes: Attributes, reader: &mut Reader<'_>) -> Read {
    let mut read = Read::default();
    let mut attributes: Vec<_> = attributes.into_iter().collect();
    attributes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    for (name, value) in attributes {
        match (name.as_str(), value.string_value) {
            (BODY, Some(text)) => read.body = Some(text),
            (PACKED, Some(text)) => {
                if !unpack(&text, reader, &mut read.headers) {
                    reader.header(PACKED, text);
                }
            }
            (name, Some(text)) => reader.header(name, text),
            (name, None) => {
                let bytes = value.binary_value.map(aws_smithy_types::Blob::into_inner).unwrap_or_default();
                reader.header(name, Bytes::from(bytes));
            }
        }
    }
    read
}

/// False where the text is not what [`Written::pack`] writes: a foreign publisher may use the name.
fn unpack(text: &str, reader: &mut Reader<'_>, headers: &mut Headers) -> bool {
    let Ok(packed) = serde_json::from_str::<Value>(text) else { return false };
    let Some(metadata) = pairs(&packed["metadata"]) else { return false };
    let Some(own) = pairs(&packed["headers"]) else { return false };
    metadata.into_iter().for_each(|(name, value)| reader.header(&name, value));
    own.into_iter().for_each(|(name, value)| headers.append(name, value));
    true
}

fn pairs(list: &Value) -> Option<Vec<(String, HeaderValue)>> {
    match list {
        Value::Null => Some(Vec::new()),
        Value::Array(pairs) => pairs.iter().map(pair).collect(),
        _ => None,
    }
}

fn pair(pair: &Value) -> Option<(String, HeaderValue)> {
    let (name, value) = (pair.get(0)?.as_str()?, pair.get(1)?);
    let value = match value.as_str() {
        Some(text) => HeaderValue::from(text),
        None => HeaderValue::from(STANDARD.decode(value.get("base64")?.as_str()?).ok()?),
    };
    Some((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_attribute_only_where_sqs_takes_it() {
        for name in ["a", "x-Case", "a.b", "_9", &"x".repeat(256)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a:b", ".a", "a.", "a..b", "AWS.x", "amazon.x", "a/b", "ü", &"x".repeat(257)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_text_is_one_only_where_sqs_takes_it() {
        for text in ["a", "\t\n\r", "\u{7f}", "\u{1f600}", "\u{fffd}", "\u{ef}\u{e000}"] {
            assert!(is_text(text), "{text:?}");
        }
        for text in ["", "a\u{0}", "\u{1b}", "\u{fffe}", "x\u{ffff}"] {
            assert!(!is_text(text), "{text:?}");
        }
    }

    #[test]
    fn a_foreign_attribute_of_our_name_is_a_header() {
        for text in ["", "no json", "[]x", r#"{"headers":[["a"]]}"#, r#"{"metadata":1}"#] {
            let value =
                MessageAttributeValue::builder().data_type(STRING).string_value(text).build().unwrap();
            let mut reader = Reader::new("");
            read([(PACKED.to_owned(), value)].into(), &mut reader);
            let message = reader.finish(Bytes::new(), "q", 1, ductape_core::Timestamp::default());
            assert_eq!(message.headers.get(PACKED).and_then(HeaderValue::as_str), Some(text));
        }
    }
}
