//! Tags and events: the names that users write.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest tag, in bytes. Two of them and a separator fit every provider's own limit for names but
/// SQS's (80), whose default names are shortened with a digest.
pub const MAX_TAG_LEN: usize = 100;

/// The name of a product, a broker, an env, a topic or a session: ASCII letters, digits, `-`, `_` and `.`;
/// a topic's may also hold `:` and `/`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

impl Tag {
    /// Checks and takes a tag.
    ///
    /// # Errors
    /// [`ErrorKind::TagInvalid`] where it is empty, longer than [`MAX_TAG_LEN`], or holds another character.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        if let Some(fault) = tag_fault(text, |c| matches!(c, '-' | '_' | '.')) {
            return Err(invalid("tag", text, &fault));
        }
        Ok(Tag(Arc::from(text)))
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `brokerTag:topicTag`, the address that users write. Everything after the first colon is the topic.
///
/// ```
/// use ductape_core::Event;
/// let event: Event = "order-events:new-orders".parse()?;
/// assert_eq!(event.broker().as_str(), "order-events");
/// assert_eq!(event.topic(), "new-orders");
/// # Ok::<(), ductape_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Event {
    text: Arc<str>,
    broker: Tag,
}

impl Event {
    /// Puts an event together from a broker's tag and a topic's own, which may already carry its broker's.
    ///
    /// # Errors
    /// [`ErrorKind::TagInvalid`] where the topic's tag is not one.
    pub fn new(broker: &Tag, topic: &str) -> Result<Self> {
        let own =
            topic.strip_prefix(broker.as_str()).and_then(|rest| rest.strip_prefix(':')).unwrap_or(topic);
        format!("{broker}:{own}").parse()
    }

    /// The broker's tag.
    pub fn broker(&self) -> &Tag {
        &self.broker
    }

    /// The topic's tag without its broker's.
    pub fn topic(&self) -> &str {
        &self.text[self.broker.as_str().len() + 1..]
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole address as shared text, for metadata.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }
}

impl FromStr for Event {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((broker, topic)) = text.split_once(':') else {
            return Err(invalid("event", text, "has no colon").with_help(format!(
                "write an event as `broker:topic`, for instance `{}:new-orders`",
                safe(text)
            )));
        };
        let broker = Tag::new(broker).map_err(|e| e.with_context("event", safe(text)))?;
        if let Some(fault) = tag_fault(topic, |c| matches!(c, '-' | '_' | '.' | ':' | '/')) {
            return Err(invalid("topic tag", topic, &fault).with_context("event", safe(text)));
        }
        Ok(Event { text: Arc::from(text), broker })
    }
}

impl TryFrom<&str> for Event {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

fn tag_fault(text: &str, also: impl Fn(char) -> bool) -> Option<String> {
    if text.is_empty() {
        return Some("is empty".into());
    }
    if text.len() > MAX_TAG_LEN {
        return Some(format!("has {} bytes, {MAX_TAG_LEN} at most", text.len()));
    }
    let odd = text.chars().find(|c| !c.is_ascii_alphanumeric() && !also(*c))?;
    Some(format!("holds {odd:?}"))
}

fn invalid(what: &str, text: &str, fault: &str) -> Error {
    Error::new(ErrorKind::TagInvalid, format!("the {what} `{}` {fault}", safe(text)))
        .with_help("use ASCII letters, digits, `-`, `_` and `.`")
}

/// What to say of a name that is not there: the nearest of those that are, and all of them.
pub(crate) fn nearest_help<'a>(what: &str, name: &str, there: impl IntoIterator<Item = &'a str>) -> String {
    let there: Vec<&str> = there.into_iter().collect();
    if there.is_empty() {
        return format!("there are no {what} yet");
    }
    let nearest = there.iter().min_by_key(|other| strsim::damerau_levenshtein(name, other));
    let nearest = nearest.filter(|other| strsim::damerau_levenshtein(name, other) <= name.len().div_ceil(3));
    let all = there.join("`, `");
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`? The {what} are `{all}`"),
        None => format!("the {what} are `{all}`"),
    }
}

/// What a user typed, bounded and without control characters, fit for an error.
fn safe(text: &str) -> String {
    text.chars().take(MAX_TAG_LEN).flat_map(|c| c.escape_debug()).collect()
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Tag::new(text)
    }
}

impl Borrow<str> for Tag {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Tag {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl schemars::JsonSchema for Tag {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tag".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "minLength": 1, "maxLength": MAX_TAG_LEN, "pattern": "^[A-Za-z0-9._-]+$",
        })
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Tag::new(String::deserialize(deserializer)?).map_err(|e| serde::de::Error::custom(e.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_after_the_first_colon_is_the_topic() {
        let event: Event = "a:b:c/d".parse().unwrap();
        assert_eq!((event.broker().as_str(), event.topic()), ("a", "b:c/d"));
    }

    #[test]
    fn a_topic_tag_is_accepted_with_and_without_its_brokers() {
        let broker = Tag::new("order-events").unwrap();
        let with = Event::new(&broker, "order-events:new-orders").unwrap();
        assert_eq!(with, Event::new(&broker, "new-orders").unwrap());
    }

    #[test]
    fn what_is_not_an_event_says_why() {
        for (text, fault) in [
            ("orders", "has no colon"),
            (":orders", "is empty"),
            ("orders:", "is empty"),
            ("or ders:x", "holds ' '"),
            ("a:x\n", "holds '\\n'"),
        ] {
            let error = text.parse::<Event>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TagInvalid);
            assert!(error.message().contains(fault), "{text:?}: {error}");
        }
        assert!(Tag::new("x".repeat(101)).unwrap_err().message().contains("101 bytes, 100 at most"));
    }
}
