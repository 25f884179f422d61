//! Entries that Ductape did not write, which have whatever fields their writers liked.
//!
//! 1. The first of the fields `payload`, `data`, `message` and `body` that is there is the payload.
//! 2. Else a single field's value is.
//! 3. Else the payload is a JSON object of all fields that are text.
//!
//! Fields that are not the payload are headers, byte for byte; with the third rule all of them are.

use crate::message::{into_text, value};
use bytes::Bytes;
use ductape_core::Headers;
use serde_json::{Map, Value};

const BODIES: [&[u8]; 4] = [b"payload", b"data", b"message", b"body"];

/// What a foreign entry comes to.
pub(crate) struct Foreign {
    pub(crate) payload: Bytes,
    pub(crate) headers: Headers,
    /// Whether the payload was put together from the fields.
    pub(crate) is_json: bool,
}

/// Reads names and values in turn.
pub(crate) fn find(mut fields: Vec<Vec<u8>>) -> Foreign {
    let position = |name: &&[u8]| fields.chunks_exact(2).position(|pair| pair[0] == **name);
    let body = BODIES.iter().find_map(position).or((fields.len() == 2).then_some(0));
    let Some(body) = body else {
        let payload = object(&fields);
        return Foreign { payload, headers: headers(fields), is_json: true };
    };
    let payload = fields.drain(2 * body..2 * body + 2).next_back().unwrap_or_default();
    Foreign { payload: payload.into(), headers: headers(fields), is_json: false }
}

fn headers(fields: Vec<Vec<u8>>) -> Headers {
    let mut headers = Headers::default();
    let mut fields = fields.into_iter();
    while let (Some(name), Some(bytes)) = (fields.next(), fields.next()) {
        headers.append(into_text(name), value(bytes));
    }
    headers
}

fn object(fields: &[Vec<u8>]) -> Bytes {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let pairs = fields.chunks_exact(2).filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?.into())));
    Value::Object(pairs.collect::<Map<_, _>>()).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fields: &[&[u8]]) -> Foreign {
        find(fields.iter().map(|field| field.to_vec()).collect())
    }

    #[test]
    fn a_field_that_is_called_like_a_body_is_the_payload() {
        for name in BODIES {
            let read = found(&[b"a", b"1", name, b"\xff", b"b", b"2"]);
            assert_eq!((&read.payload[..], read.headers.len(), read.is_json), (&b"\xff"[..], 2, false));
        }
    }

    #[test]
    fn a_single_field_is_the_payload_whatever_its_name() {
        let read = found(&[b"temperature", b"20"]);
        assert_eq!((&read.payload[..], read.headers.is_empty()), (&b"20"[..], true));
    }

    #[test]
    fn other_fields_are_an_object_and_headers() {
        let read = found(&[b"name", b"bob \"b\"", b"age", b"7", b"raw", b"\xff"]);
        assert_eq!(&read.payload[..], br#"{"name":"bob \"b\"","age":"7"}"#);
        assert_eq!((read.headers.len(), read.is_json), (3, true));
        assert_eq!(read.headers.get("raw").map(|value| value.as_bytes()), Some(&b"\xff"[..]));
    }
}
