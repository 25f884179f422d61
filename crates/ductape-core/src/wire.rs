//! Metadata as name and text pairs, for providers that carry headers or attributes.
//!
//! The names are those of CloudEvents 1.0 (§ "Required attributes", the Partitioning extension for the key) behind
//! the prefix of the provider's binding: `ce_` on Kafka, `cloudEvents:` on AMQP, `ce-` on Pub/Sub, the
//! bare name elsewhere. Trace context and dead-letter facts stand without prefix, where other tools look.
//!
//! [`write()`] and [`Reader`] are inverse to each other for every message, and [`Reader`] takes whatever a foreign
//! publisher sent: what it does not know is a user's header.

use crate::message::{
    Attributes, DeadLetter, Extensions, HeaderValue, Headers, Key, Message, MessageId, OCTET_STREAM,
    SessionRef,
};
use crate::time::Timestamp;
use bytes::Bytes;
use std::sync::Arc;

/// CloudEvents' `specversion` of what is written.
pub const SPEC_VERSION: &str = "1.0";

/// The names without prefix that a user's header may not have.
pub const RESERVED_NAMES: [&str; 2] = [TRACEPARENT, TRACESTATE];
/// The beginnings that a user's header may not have, since the metadata of some provider starts so.
pub const RESERVED_PREFIXES: [&str; 5] = ["ce_", "ce-", "cloudEvents:", "dead-letter-", "ductape-"];

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const ID: &str = "id";
const SOURCE: &str = "source";
const TYPE: &str = "type";
const TIME: &str = "time";
const VERSION: &str = "specversion";
const CONTENT_TYPE: &str = "datacontenttype";
const KEY: &str = "partitionkey";
const SESSION_TAG: &str = "ductape-session";
const SESSION_SUBJECT: &str = "ductape-subject";
const REDRIVE_GROUP: &str = "ductape-redrive-group";
const DEAD_REASON: &str = "dead-letter-reason";
const DEAD_ATTEMPTS: &str = "dead-letter-attempts";
const DEAD_FAILED_AT: &str = "dead-letter-failed-at";
const DEAD_DESTINATION: &str = "dead-letter-destination";
const DEAD_GROUP: &str = "dead-letter-group";
const DEAD_POSITION: &str = "dead-letter-position";

/// Hands every piece of metadata to `put`, CloudEvents' own behind `prefix`. Not the user's headers, and not
/// a key that is not UTF-8.
pub fn write(message: &Message, prefix: &str, mut put: impl FnMut(&str, &str)) {
    let mut name = String::with_capacity(prefix.len() + CONTENT_TYPE.len());
    let mut cloud = |attribute: &str, value: &str| {
        name.clear();
        name.push_str(prefix);
        name.push_str(attribute);
        put(&name, value);
    };
    cloud(VERSION, SPEC_VERSION);
    message.id.with_text(|id| cloud(ID, id));
    cloud(SOURCE, message.source());
    cloud(TYPE, message.event());
    message.time.with_text(|time| cloud(TIME, time));
    cloud(CONTENT_TYPE, message.content_type());
    if let Some(key) = message.key.as_ref().and_then(Key::as_str) {
        cloud(KEY, key);
    }
    if let Some(extensions) = &message.extensions {
        write_extensions(extensions, put);
    }
}

/// Hands what few messages have to `put`: trace context, session, dead-letter facts.
pub fn write_extensions(extensions: &Extensions, mut put: impl FnMut(&str, &str)) {
    let optional = [
        (TRACEPARENT, &extensions.traceparent),
        (TRACESTATE, &extensions.tracestate),
        (REDRIVE_GROUP, &extensions.redrive_group),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            put(name, value);
        }
    }
    if let Some(session) = &extensions.session {
        put(SESSION_TAG, &session.tag);
        put(SESSION_SUBJECT, &session.subject);
    }
    if let Some(dead) = &extensions.dead_letter {
        put(DEAD_REASON, &dead.reason);
        put(DEAD_ATTEMPTS, &dead.attempts.to_string());
        put(DEAD_FAILED_AT, &dead.failed_at.to_string());
        put(DEAD_DESTINATION, &dead.destination);
        put(DEAD_GROUP, &dead.group);
        put(DEAD_POSITION, &dead.position);
    }
}

/// Puts a message together from what a provider read.
#[derive(Debug)]
pub struct Reader<'p> {
    prefix: &'p str,
    id: Option<MessageId>,
    time: Option<Timestamp>,
    source: Option<Arc<str>>,
    event: Option<Arc<str>>,
    content_type: Option<Arc<str>>,
    key: Option<Key>,
    extensions: Extensions,
    session: (Option<Arc<str>>, Option<Arc<str>>),
    dead: PartialDeadLetter,
    headers: Headers,
    like: Option<Arc<Attributes>>,
}

#[derive(Debug, Default)]
struct PartialDeadLetter {
    reason: Option<Arc<str>>,
    attempts: Option<u32>,
    failed_at: Option<Timestamp>,
    destination: Option<Arc<str>>,
    group: Option<Arc<str>>,
    position: Option<Arc<str>>,
}

impl<'p> Reader<'p> {
    /// A reader of metadata behind `prefix`.
    pub fn new(prefix: &'p str) -> Self {
        Reader {
            prefix,
            id: None,
            time: None,
            source: None,
            event: None,
            content_type: None,
            key: None,
            extensions: Extensions::default(),
            session: (None, None),
            dead: PartialDeadLetter::default(),
            headers: Headers::default(),
            like: None,
        }
    }

    /// The same, expecting attributes like these: what is equal is shared instead of made anew. Messages that come one
    /// after another mostly have the same.
    pub fn like(mut self, attributes: Option<&Arc<Attributes>>) -> Self {
        self.like = attributes.cloned();
        self
    }

    /// Takes one header, of which bytes are copied only where it is a user's. See [`Reader::header`].
    pub fn borrowed_header(&mut self, name: &str, value: &[u8]) {
        if !std::str::from_utf8(value).is_ok_and(|text| self.metadata(name, text)) {
            self.headers.append(name, Bytes::copy_from_slice(value));
        }
    }

    /// Takes one header. What is not metadata, or is metadata that does not read as such, is a user's header.
    pub fn header(&mut self, name: &str, value: impl Into<HeaderValue>) {
        let value = value.into();
        let taken = value.as_str().is_some_and(|text| self.metadata(name, text));
        if !taken {
            self.headers.append(name, value);
        }
    }

    fn metadata(&mut self, name: &str, text: &str) -> bool {
        match name.strip_prefix(self.prefix) {
            Some(attribute) if self.cloud_event(attribute, text) => true,
            _ => self.extension(name, text),
        }
    }

    fn cloud_event(&mut self, attribute: &str, text: &str) -> bool {
        match attribute {
            VERSION => return text == SPEC_VERSION,
            ID => self.id = Some(MessageId::parse(text)),
            SOURCE => self.source = Some(self.shared(text, |like| &like.source)),
            TYPE => self.event = Some(self.shared(text, |like| &like.event)),
            CONTENT_TYPE => self.content_type(text),
            KEY => self.key = Some(text.into()),
            TIME => match text.parse() {
                Ok(time) => self.time = Some(time),
                Err(_) => return false,
            },
            _ => return false,
        }
        true
    }

    fn extension(&mut self, name: &str, text: &str) -> bool {
        let place = match name {
            TRACEPARENT => &mut self.extensions.traceparent,
            TRACESTATE => &mut self.extensions.tracestate,
            REDRIVE_GROUP => &mut self.extensions.redrive_group,
            SESSION_TAG => &mut self.session.0,
            SESSION_SUBJECT => &mut self.session.1,
            DEAD_REASON => &mut self.dead.reason,
            DEAD_DESTINATION => &mut self.dead.destination,
            DEAD_GROUP => &mut self.dead.group,
            DEAD_POSITION => &mut self.dead.position,
            DEAD_ATTEMPTS => {
                self.dead.attempts = text.parse().ok();
                return self.dead.attempts.is_some();
            }
            DEAD_FAILED_AT => {
                self.dead.failed_at = text.parse().ok();
                return self.dead.failed_at.is_some();
            }
            _ => return false,
        };
        *place = Some(text.into());
        true
    }

    /// Sets the key where the provider carries it apart from the headers.
    pub fn key(&mut self, key: Key) {
        self.key = Some(key);
    }

    /// Sets the content type where the provider carries it apart from the headers.
    pub fn content_type(&mut self, content_type: &str) {
        self.content_type = Some(self.shared(content_type, |like| &like.content_type));
    }

    fn shared(&self, text: &str, part: fn(&Attributes) -> &Arc<str>) -> Arc<str> {
        match self.like.as_deref().map(part) {
            Some(like) if **like == *text => Arc::clone(like),
            _ => text.into(),
        }
    }

    /// Sets the id where the provider carries it apart from the headers.
    pub fn id(&mut self, id: MessageId) {
        self.id = Some(id);
    }

    /// Sets the time where the provider carries it apart from the headers.
    pub fn time(&mut self, time: Timestamp) {
        self.time = Some(time);
    }

    /// The message. What a foreign publisher left out is filled in: the id from `position`, so that it is the
    /// same on every redelivery; the time from `received`, the source from `destination`.
    pub fn finish(
        mut self,
        payload: Bytes,
        destination: &str,
        position: impl std::fmt::Display,
        received: Timestamp,
    ) -> Message {
        if let (Some(tag), Some(subject)) = self.session {
            self.extensions.session = Some(SessionRef { tag, subject });
        }
        self.extensions.dead_letter = self.dead.complete();
        let attributes = Attributes {
            source: self.source.unwrap_or_else(|| destination.into()),
            event: self.event.unwrap_or_else(|| "".into()),
            content_type: self.content_type.unwrap_or_else(|| OCTET_STREAM.into()),
        };
        Message {
            payload,
            key: self.key,
            headers: self.headers,
            id: self.id.unwrap_or_else(|| MessageId::Text(format!("{destination}/{position}").into())),
            time: self.time.unwrap_or(received),
            attributes: match self.like {
                Some(like) if *like == attributes => like,
                _ => Arc::new(attributes),
            },
            extensions: (self.extensions != Extensions::default()).then(|| Arc::new(self.extensions)),
        }
    }
}

impl PartialDeadLetter {
    fn complete(self) -> Option<DeadLetter> {
        let empty = || Arc::from("");
        Some(DeadLetter {
            reason: self.reason?,
            attempts: self.attempts.unwrap_or(0),
            failed_at: self.failed_at.unwrap_or_default(),
            destination: self.destination.unwrap_or_else(empty),
            group: self.group.unwrap_or_else(empty),
            position: self.position.unwrap_or_else(empty),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::IdSource;

    fn full() -> Message {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        let attributes =
            Attributes { source: "/shop".into(), event: "a:b".into(), content_type: "text/plain".into() };
        let mut message = Message::new("body", IdSource::new().next(time), time, Arc::new(attributes));
        message.key = Some("k\u{e9}y".into());
        message.headers = [("a", "1"), ("id", "2"), ("b", "\u{1f600}")].into_iter().collect();
        *message.extensions_mut() = Extensions {
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            tracestate: Some("a=b".into()),
            session: Some(SessionRef { tag: "user-session".into(), subject: "42".into() }),
            dead_letter: Some(DeadLetter {
                reason: "why".into(),
                attempts: 5,
                failed_at: time,
                destination: "orders".into(),
                group: "g".into(),
                position: "0/42".into(),
            }),
            redrive_group: Some("g".into()),
        };
        message
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let message = full();
        let mut reader = Reader::new("ce_");
        write(&message, "ce_", |name, value| reader.header(name, value));
        for (name, value) in message.headers.iter() {
            reader.header(name, value.clone());
        }
        let read = reader.finish(message.payload.clone(), "orders", 42, Timestamp::default());
        assert_eq!(read, message);
    }

    #[test]
    fn attributes_that_are_like_the_last_ones_are_shared_and_others_are_not() {
        let message = full();
        let read = |content_type: &str| {
            let mut reader = Reader::new("ce_").like(Some(&message.attributes));
            write(&message, "ce_", |name, value| reader.borrowed_header(name, value.as_bytes()));
            reader.content_type(content_type);
            reader.finish(message.payload.clone(), "orders", 42, Timestamp::default())
        };
        assert!(Arc::ptr_eq(&read("text/plain").attributes, &message.attributes));
        let other = read("text/csv");
        assert_eq!((other.content_type(), other.source(), other.event()), ("text/csv", "/shop", "a:b"));
        assert!(other.headers.is_empty());
    }

    #[test]
    fn a_foreign_message_is_read_whatever_it_holds() {
        let mut reader = Reader::new("ce_");
        reader.header("ce_time", "yesterday");
        reader.header("ce_specversion", "0.3");
        reader.header("ce_id", vec![0xff, 0xfe]);
        reader.header("dead-letter-attempts", "many");
        let read = reader.finish(Bytes::new(), "orders", "3/7", Timestamp::from_micros(5));
        assert_eq!(read.headers.len(), 4);
        assert_eq!(read.id.to_string(), "orders/3/7");
        assert_eq!((read.time, read.source(), read.event()), (Timestamp::from_micros(5), "orders", ""));
        assert!(read.extensions.is_none());
    }
}
