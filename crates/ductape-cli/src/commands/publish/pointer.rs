//! Finding a key in a line: a JSON Pointer (RFC 6901), followed without building the rest of the value.

use crate::failure::{Failure, Outcome};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// A JSON Pointer, taken apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pointer {
    text: String,
    parts: Vec<String>,
}

impl Pointer {
    /// Reads `/a/b`; the empty pointer is the whole message.
    pub(super) fn parse(text: &str) -> Outcome<Self> {
        let escaped = |part: &str| {
            let rest = part.replace("~0", "").replace("~1", "");
            (!rest.contains('~')).then(|| part.replace("~1", "/").replace("~0", "~"))
        };
        let parts = match text.strip_prefix('/') {
            _ if text.is_empty() => Some(Vec::new()),
            Some(rest) => rest.split('/').map(escaped).collect(),
            None => None,
        };
        match parts {
            Some(parts) => Ok(Pointer { text: text.to_owned(), parts }),
            None => Err(Failure::usage(
                format!("`--key {}` is not a JSON Pointer", text.escape_debug()),
                format!(
                    "write it with a slash in front, for instance `--key /{}`",
                    text.trim_start_matches('.').replace('.', "/").escape_debug()
                ),
            )),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The value that it leads to, as it is written; none where it leads nowhere.
    ///
    /// # Errors
    /// Those of JSON that is none.
    pub(super) fn find<'j>(&self, json: &'j str) -> serde_json::Result<Option<&'j RawValue>> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let found = Find(&self.parts).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(found)
    }
}

/// Follows what is left of a pointer.
#[derive(Clone, Copy)]
struct Find<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => serde::Deserialize::deserialize(deserializer).map(Some),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (name, rest) = match self.0.split_first() {
            Some((name, rest)) => (name, Find(rest)),
            None => return Ok(None),
        };
        let mut found = None;
        // The last of a name counts, as for every reader that builds a map.
        while let Some(is) = map.next_key_seed(Is(name))? {
            match is {
                true => found = map.next_value_seed(rest)?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (name, rest) = match self.0.split_first() {
            Some((name, rest)) => (name, Find(rest)),
            None => return Ok(None),
        };
        let wanted = name.parse::<usize>().ok().filter(|_| name == "0" || !name.starts_with(['0', '+']));
        let mut found = None;
        for index in 0.. {
            let more = if wanted == Some(index) {
                seq.next_element_seed(rest)?.map(|value| found = value).is_some()
            } else {
                seq.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a name is this one, without keeping it.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(pointer: &str, json: &str) -> Option<String> {
        Pointer::parse(pointer).unwrap().find(json).unwrap().map(|raw| raw.get().to_owned())
    }

    #[test]
    fn a_pointer_leads_through_objects_and_lists() {
        let json = r#"{"a":{"b/c":[1,"x"],"~":2},"a2":null,"e\u0061":3}"#;
        assert_eq!(find("/a/b~1c/1", json).as_deref(), Some("\"x\""));
        assert_eq!(find("/a/~0", json).as_deref(), Some("2"));
        assert_eq!(find("/ea", json).as_deref(), Some("3"));
        assert_eq!(find("/a2", json).as_deref(), Some("null"));
        for nowhere in ["/b", "/a/b~1c/2", "/a/b~1c/01", "/a/b~1c/x", "/a2/b", "/a/~0/x"] {
            assert_eq!(find(nowhere, json), None, "{nowhere}");
        }
        assert_eq!(find("", "7").as_deref(), Some("7"));
    }

    #[test]
    fn what_is_no_pointer_says_how_to_write_one() {
        let Err(Failure::Usage { help, .. }) = Pointer::parse("customer.id") else { panic!("it was read") };
        assert!(help.contains("`--key /customer/id`"), "{help}");
        assert!(Pointer::parse("/a~2").is_err());
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-c~/\"]{0,3}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec(("[a-c~/\"]{0,2}", inner), 0..4)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_serde_json_finds(value in value(), parts in prop::collection::vec("[a-c0-2~/]{0,2}", 0..4)) {
            let pointer: String =
                parts.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect();
            let json = value.to_string();
            let found = find(&pointer, &json).map(|raw| serde_json::from_str::<serde_json::Value>(&raw).unwrap());
            prop_assert_eq!(found.as_ref(), value.pointer(&pointer));
        }
    }
}
