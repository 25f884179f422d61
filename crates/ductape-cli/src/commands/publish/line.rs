//! One line: whether it is a message, and its key.

use super::pointer::Pointer;
use bytes::Bytes;
use ductape::{Error, ErrorKind, Key};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// A line without its ending.
#[derive(Debug)]
pub(super) struct Line {
    /// Its number, from 1 on.
    pub(super) number: u64,
    pub(super) bytes: Bytes,
    /// Its key, or why it is no message.
    pub(super) content: Result<Option<Key>, Error>,
}

impl Line {
    /// Checks a line. No value is built: its syntax is looked at once, and the key is taken on the way.
    pub(super) fn read(number: u64, bytes: Bytes, pointer: Option<&Pointer>) -> Self {
        let content = match pointer {
            None => check(&bytes).map(|()| None),
            Some(pointer) => key(&bytes, pointer).map(Some),
        };
        Line { number, bytes, content }
    }

    /// A line over the limit, of which nothing is kept.
    pub(super) fn too_long(number: u64, size: u64, limit: usize) -> Self {
        let what = format!("the line has {size} bytes, and the provider takes {limit}");
        let error = Error::new(ErrorKind::MessageTooLarge, what)
            .with_help("publish less, or store the payload elsewhere and publish where it is");
        Line { number, bytes: Bytes::new(), content: Err(error) }
    }
}

fn check(bytes: &Bytes) -> Result<(), Error> {
    serde_json::from_str::<IgnoredAny>(text(bytes)?).map(drop).map_err(|error| not_json(&error))
}

fn key(bytes: &Bytes, pointer: &Pointer) -> Result<Key, Error> {
    let found = pointer.find(text(bytes)?).map_err(|error| not_json(&error))?;
    let refused = |what: &str| {
        Error::new(ErrorKind::MessageInvalid, format!("{what} at `--key {}`", pointer.as_str()))
            .with_help("mend the line, or publish such lines apart and without `--key`")
    };
    match found.map(RawValue::get) {
        None => Err(refused("there is nothing")),
        Some("null") => Err(refused("there is `null`")),
        Some(raw) if raw.starts_with(['{', '[']) => Err(refused("there is no text or number")),
        Some(raw) if raw.starts_with('"') => match &raw.as_bytes()[1..raw.len() - 1] {
            [] => Err(refused("there is an empty text")),
            plain if !plain.contains(&b'\\') => Ok(Key::from_bytes(bytes.slice_ref(plain))),
            _ => serde_json::from_str::<String>(raw).map(Key::from).map_err(|error| not_json(&error)),
        },
        Some(raw) => Ok(Key::from_bytes(bytes.slice_ref(raw.as_bytes()))),
    }
}

/// JSON is UTF-8 (RFC 8259 §8.1).
fn text(bytes: &Bytes) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|error| {
        let column = error.valid_up_to() + 1;
        let what = format!("not JSON: byte {column} is not UTF-8");
        Error::new(ErrorKind::MessageInvalid, what).with_help("write the file in UTF-8")
    })
}

/// The parser's words, which never quote the line.
fn not_json(error: &serde_json::Error) -> Error {
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or_default();
    Error::new(ErrorKind::MessageInvalid, format!("not JSON: {words} at column {}", error.column()))
        .with_help("write one message of JSON a line")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(line: &'static str, pointer: &str) -> Result<Option<String>, String> {
        let pointer = (!pointer.is_empty()).then(|| Pointer::parse(pointer).unwrap());
        let read = Line::read(1, Bytes::from_static(line.as_bytes()), pointer.as_ref());
        read.content.map(|key| key.map(|key| key.to_string())).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn keys_are_texts_and_numbers() {
        assert_eq!(content(r#"{"k":"a b"}"#, "/k"), Ok(Some("a b".into())));
        assert_eq!(content(r#"{"k":"a\n\u00e9"}"#, "/k"), Ok(Some("a\né".into())));
        assert_eq!(content(r#"{"k":12.50}"#, "/k"), Ok(Some("12.50".into())));
        assert_eq!(content(r#"{"k":true}"#, "/k"), Ok(Some("true".into())));
        for (line, fault) in [
            (r#"{"x":1}"#, "there is nothing"),
            (r#"{"k":null}"#, "there is `null`"),
            (r#"{"k":[1]}"#, "there is no text or number"),
            (r#"{"k":""}"#, "there is an empty text"),
        ] {
            assert_eq!(content(line, "/k"), Err(format!("{fault} at `--key /k`")));
        }
    }

    #[test]
    fn what_is_no_json_says_where() {
        assert_eq!(content("{\"a\":}", ""), Err("not JSON: expected value at column 6".into()));
        assert_eq!(content("{\"a\":1} x", ""), Err("not JSON: trailing characters at column 9".into()));
        assert_eq!(
            content("{\"a\":1", "/a").unwrap_err(),
            "not JSON: EOF while parsing an object at column 6"
        );
        let line = Line::read(1, Bytes::from_static(b"\"\xff\""), None);
        assert_eq!(line.content.unwrap_err().message(), "not JSON: byte 2 is not UTF-8");
    }
}
