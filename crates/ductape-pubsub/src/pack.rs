//! Packing what Pub/Sub's attributes cannot hold as it is: values over 1,024 bytes or not UTF-8, names that are taken or
//! Google's own, and what is past the hundredth. It goes as JSON into attributes of ours, cut into pieces:
//!
//! ```text
//!  ductape-packed-0: [["name","text"],["name",{"base64":"AP8="}], …
//!  ductape-packed-1: …
//! ```

use crate::protocol::Attribute;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

/// The longest name of an attribute, in bytes (<https://cloud.google.com/pubsub/quotas#resource_limits>).
const MAX_NAME_LEN: usize = 256;
/// The longest value, in bytes.
const MAX_VALUE_LEN: usize = 1024;
/// The most attributes.
pub(crate) const MAX_ATTRIBUTES: usize = 100;
/// The names of the pieces, before their number.
pub(crate) const PREFIX: &str = "ductape-packed-";

/// Whether an attribute of Pub/Sub can hold this as it is.
pub(crate) fn fits(name: &str, value: &[u8]) -> bool {
    (1..=MAX_NAME_LEN).contains(&name.len())
        && !name.starts_with("goog")
        && value.len() <= MAX_VALUE_LEN
        && std::str::from_utf8(value).is_ok()
}

/// As many attributes as it takes.
pub(crate) fn pack(pairs: &[(String, Bytes)]) -> Vec<Attribute> {
    if pairs.is_empty() {
        return Vec::new();
    }
    let packed: Vec<_> = pairs.iter().map(|(name, value)| json!([name, packed_value(value)])).collect();
    let text = Value::Array(packed).to_string();
    let piece = |(number, value)| Attribute { name: format!("{PREFIX}{number}"), value };
    pieces(&text).into_iter().enumerate().map(piece).collect()
}

fn packed_value(value: &Bytes) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(value) }),
    }
}

fn pieces(mut text: &str) -> Vec<String> {
    let mut pieces = Vec::with_capacity(text.len() / MAX_VALUE_LEN + 1);
    while !text.is_empty() {
        let mut end = MAX_VALUE_LEN.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, rest) = text.split_at(end);
        pieces.push(piece.to_owned());
        text = rest;
    }
    pieces
}

/// The number of a piece, from its name.
pub(crate) fn number(name: &str) -> Option<usize> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// What was packed; nothing where the pieces are not ours after all.
pub(crate) fn unpack(mut pieces: Vec<(usize, &str)>) -> Option<Vec<(String, Bytes)>> {
    pieces.sort_unstable_by_key(|(number, _)| *number);
    let text: String = pieces.into_iter().map(|(_, piece)| piece).collect();
    let Value::Array(pairs) = serde_json::from_str(&text).ok()? else { return None };
    pairs.into_iter().map(unpacked_pair).collect()
}

fn unpacked_pair(pair: Value) -> Option<(String, Bytes)> {
    let Value::Array(pair) = pair else { return None };
    let [Value::String(name), value] = <[Value; 2]>::try_from(pair).ok()? else { return None };
    let value = match value {
        Value::String(text) => Bytes::from(text),
        Value::Object(other) => Bytes::from(STANDARD.decode(other.get("base64")?.as_str()?).ok()?),
        _ => return None,
    };
    Some((name, value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use proptest::prelude::*;

    fn unpacked(attributes: &[Attribute]) -> Option<Vec<(String, Bytes)>> {
        unpack(attributes.iter().map(|it| (number(&it.name).unwrap(), it.value.as_str())).collect())
    }

    #[test]
    fn what_is_packed_reads_as_json() {
        let packed = pack(&[("a".into(), "text".into()), ("b".into(), Bytes::from_static(b"\0\xff"))]);
        assert_eq!(packed[0].name, "ductape-packed-0");
        assert_eq!(packed[0].value, r#"[["a","text"],["b",{"base64":"AP8="}]]"#);
    }

    #[test]
    fn what_is_not_ours_is_nothing() {
        for text in ["", "{}", "[1]", r#"[["a"]]"#, r#"[["a",1]]"#, r#"[["a",{"base64":"?"}]]"#] {
            assert_eq!(unpack(vec![(0, text)]), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn anything_comes_back_in_pieces_of_the_allowed_size(
            pairs in prop::collection::vec((".{0,300}", prop::collection::vec(any::<u8>(), 0..3000)), 1..8)
        ) {
            let pairs: Vec<(String, Bytes)> =
                pairs.into_iter().map(|(name, value)| (name, value.into())).collect();
            let mut packed = pack(&pairs);
            prop_assert!(packed.iter().all(|piece| fits(&piece.name, piece.value.as_bytes())));
            packed.reverse();
            prop_assert_eq!(unpacked(&packed), Some(pairs));
        }
    }
}
