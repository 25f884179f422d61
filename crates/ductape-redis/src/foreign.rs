//! Entries that Ductape did not write, which have whatever fields their writers liked.
//!
//! 1. The first of the fields `payload`, `data`, `message` and `body` that is there is the payload.
//! 2. Else a single field's value is.
//! 3. Else the payload is a JSON object of all fields that are text.
//!
//! Fields that are not the payload are headers, byte for byte; with the third rule all of them are.

use crate::entry::Fields;
use crate::message::text;
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

/// Reads names and values.
pub(crate) fn find(fields: Fields<'_>) -> Foreign {
    let mut fields: Vec<_> = fields.collect();
    let position = |name: &&[u8]| fields.iter().position(|(field, _)| field == name);
    let body = BODIES.iter().find_map(position).or((fields.len() == 1).then_some(0));
    let Some(body) = body else {
        return Foreign { payload: object(&fields), headers: headers(&fields), is_json: true };
    };
    let (_, payload) = fields.remove(body);
    Foreign { payload: Bytes::copy_from_slice(payload), headers: headers(&fields), is_json: false }
}

fn headers(fields: &[(&[u8], &[u8])]) -> Headers {
    let mut headers = Headers::default();
    fields.iter().for_each(|(name, value)| headers.append(text(name), value.to_vec()));
    headers
}

fn object(fields: &[(&[u8], &[u8])]) -> Bytes {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let pairs = fields.iter().filter_map(|(name, value)| Some((text(name)?, text(value)?.into())));
    Value::Object(pairs.collect::<Map<_, _>>()).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fields: &[&[u8]]) -> Foreign {
        let fields: Vec<_> = fields.iter().map(|field| redis::Value::BulkString(field.to_vec())).collect();
        find(Fields::Values(&fields))
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
