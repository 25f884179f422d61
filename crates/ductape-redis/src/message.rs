//! Messages as a stream's entry carries them: CloudEvents' attributes as fields of their bare names, the bytes in
//! `payload`, a user's headers as fields of their own names.
//!
//! A header whose name is taken stands behind `header:`. A foreign entry is read by [`foreign`](crate::foreign).

use crate::entry::{Fields, StreamId};
use crate::foreign;
use bytes::Bytes;
use ductape_core::message::{Attributes, Extensions, OCTET_STREAM};
use ductape_core::wire::{self, Reader};
use ductape_core::{Headers, Key, Message, MessageId, Timestamp};
use redis::{Cmd, RedisWrite};
use std::borrow::Cow;
use std::sync::Arc;

/// The largest message, as [`Message::size`] counts it. Redis itself takes values of 512 MiB; what a member reads at
/// once is bounded by a count, so this bounds its memory.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

pub(crate) const PAYLOAD: &str = "payload";
const VERSION: &str = "specversion";
const ID: &str = "id";
const SOURCE: &str = "source";
const TYPE: &str = "type";
const TIME: &str = "time";
const CONTENT_TYPE: &str = "datacontenttype";
const KEY: &str = "partitionkey";
/// What stands before the name of a header that is taken.
const HEADER: &str = "header:";
const TAKEN: [&str; 8] = [PAYLOAD, VERSION, ID, SOURCE, TYPE, TIME, CONTENT_TYPE, KEY];
/// What the metadata of a message may begin with beside CloudEvents' own; a user's header never does.
const EXTENSIONS: [&str; 4] = ["traceparent", "tracestate", "dead-letter-", "ductape-"];
/// Fields of a message without headers or extensions, its key included: names and values.
const USUAL_ARGUMENTS: usize = 2 * TAKEN.len();
/// Bytes of their names and of the values that are much the same in all messages.
const USUAL_BYTES: usize = 224;

/// A command with room for a message, behind `before` arguments.
pub(crate) fn command(message: &Message, before: usize) -> Cmd {
    let arguments = before + USUAL_ARGUMENTS + 2 * message.headers.len();
    Cmd::with_capacity(arguments, USUAL_BYTES + message.size())
}

/// Appends the fields of a message to a command.
pub(crate) fn write(message: &Message, command: &mut Cmd) {
    let mut put = |name: &str, value: &[u8]| {
        command.write_arg(name.as_bytes());
        command.write_arg(value);
    };
    put(VERSION, wire::SPEC_VERSION.as_bytes());
    message.id.with_text(|id| put(ID, id.as_bytes()));
    put(SOURCE, message.source().as_bytes());
    put(TYPE, message.event().as_bytes());
    message.time.with_text(|time| put(TIME, time.as_bytes()));
    put(CONTENT_TYPE, message.content_type().as_bytes());
    if let Some(key) = &message.key {
        put(KEY, key.as_bytes());
    }
    if let Some(extensions) = &message.extensions {
        wire::write_extensions(extensions, |name, value| put(name, value.as_bytes()));
    }
    for (name, value) in message.headers.iter() {
        if is_taken(name) {
            put(&format!("{HEADER}{name}"), value.as_bytes());
        } else {
            put(name, value.as_bytes());
        }
    }
    put(PAYLOAD, &message.payload);
}

fn is_taken(name: &str) -> bool {
    TAKEN.contains(&name) || name.starts_with(HEADER) || is_extension(name)
}

fn is_extension(name: &str) -> bool {
    EXTENSIONS.iter().any(|beginning| name.starts_with(beginning))
}

/// Reads the entries of one stream. What neighbours have in common is kept, and shared by their messages.
pub(crate) struct EntryReader {
    destination: Arc<str>,
    attributes: Arc<Attributes>,
}

/// What is found in the fields of an entry that is ours.
#[derive(Default)]
struct Found<'b> {
    payload: Option<Bytes>,
    id: Option<MessageId>,
    source: Option<&'b [u8]>,
    event: Option<&'b [u8]>,
    content_type: Option<&'b [u8]>,
    time: Option<Timestamp>,
    key: Option<Key>,
    headers: Headers,
    extensions: Option<Reader<'static>>,
}

impl EntryReader {
    pub(crate) fn new(destination: Arc<str>) -> Self {
        let attributes = Attributes {
            source: Arc::clone(&destination),
            event: "".into(),
            content_type: OCTET_STREAM.into(),
        };
        EntryReader { destination, attributes: Arc::new(attributes) }
    }

    /// The message that an entry holds, whoever wrote it.
    pub(crate) fn read(&mut self, id: StreamId, fields: Fields<'_>) -> Message {
        let received = Timestamp::from_micros(i64::try_from(id.millis).unwrap_or(0).saturating_mul(1000));
        let version = (VERSION.as_bytes(), wire::SPEC_VERSION.as_bytes());
        let is_ours = fields.clone().any(|field| field == version);
        let found = if is_ours { Found::read(fields) } else { foreign::find(fields).into() };
        self.message(found, id, received)
    }

    fn message(&mut self, found: Found<'_>, id: StreamId, received: Timestamp) -> Message {
        let attributes = self.shared(&found);
        let mut message = Message {
            payload: found.payload.unwrap_or_default(),
            key: found.key,
            headers: found.headers,
            id: found.id.unwrap_or_else(|| MessageId::Text(format!("{}/{id}", self.destination).into())),
            time: found.time.unwrap_or(received),
            attributes,
            extensions: None,
        };
        if let Some(reader) = found.extensions {
            let read = reader.finish(Bytes::new(), &self.destination, id, received);
            message.extensions = read.extensions.filter(|extensions| **extensions != Extensions::default());
            for (name, value) in read.headers.iter() {
                message.headers.append(name, value.clone());
            }
        }
        message
    }

    /// The attributes, shared with the message before where they are the same.
    fn shared(&mut self, found: &Found<'_>) -> Arc<Attributes> {
        let source = found.source.unwrap_or(self.destination.as_bytes());
        let event = found.event.unwrap_or_default();
        let content_type = found.content_type.unwrap_or(OCTET_STREAM.as_bytes());
        let last = &self.attributes;
        let is_same = last.source.as_bytes() == source
            && last.event.as_bytes() == event
            && last.content_type.as_bytes() == content_type;
        if !is_same {
            let text = |bytes| Arc::from(String::from_utf8_lossy(bytes));
            self.attributes = Arc::new(Attributes {
                source: text(source),
                event: text(event),
                content_type: text(content_type),
            });
        }
        Arc::clone(&self.attributes)
    }
}

impl<'b> Found<'b> {
    /// What the fields of an entry hold that is ours.
    fn read(fields: Fields<'b>) -> Self {
        let mut found = Found::default();
        fields.for_each(|(name, value)| found.field(name, value));
        if found.payload.is_none()
            && let Some(data) = found.headers.get("data").cloned()
        {
            found.headers.remove("data");
            found.payload = Some(data.into_bytes());
        }
        found
    }

    fn field(&mut self, name: &[u8], value: &'b [u8]) {
        let is_text = || std::str::from_utf8(value).is_ok();
        match name {
            b"payload" if self.payload.is_none() => self.payload = Some(Bytes::copy_from_slice(value)),
            b"specversion" if value == wire::SPEC_VERSION.as_bytes() => {}
            b"partitionkey" => self.key = Some(Key::from_bytes(value.to_vec())),
            b"source" if is_text() => self.source = Some(value),
            b"type" if is_text() => self.event = Some(value),
            b"datacontenttype" if is_text() => self.content_type = Some(value),
            b"id" => match std::str::from_utf8(value) {
                Ok(text) => self.id = Some(MessageId::parse(text)),
                Err(_) => self.headers.append(ID, value.to_vec()),
            },
            b"time" => match parse_time(value) {
                Some(time) => self.time = Some(time),
                None => self.headers.append(TIME, value.to_vec()),
            },
            _ => self.other(name, value),
        }
    }

    /// A header, or metadata that few messages have.
    fn other(&mut self, name: &[u8], value: &[u8]) {
        let (name, value) = (text(name), value.to_vec());
        if let Some(name) = name.strip_prefix(HEADER) {
            self.headers.append(name, value);
        } else if is_extension(&name) {
            // A prefix that no name has: CloudEvents' own attributes are read here.
            self.extensions.get_or_insert_with(|| Reader::new("\0")).header(&name, value);
        } else {
            self.headers.append(name, value);
        }
    }
}

impl From<foreign::Foreign> for Found<'_> {
    fn from(foreign: foreign::Foreign) -> Self {
        let content_type = foreign.is_json.then_some(ductape_core::message::JSON.as_bytes());
        Found { payload: Some(foreign.payload), headers: foreign.headers, content_type, ..Found::default() }
    }
}

/// Field names are text nearly always; what is not is shown as well as can be.
pub(crate) fn text(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name)
}

fn parse_time(text: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;
    use ductape_core::message::{DeadLetter, IdSource, SessionRef};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use redis::{Arg, Value};

    fn message() -> Message {
        let time = Timestamp::from_micros(1_700_000_000_123_456);
        let attributes =
            Attributes { source: "/shop".into(), event: "a:b".into(), content_type: "text/plain".into() };
        let mut message =
            Message::new(vec![0, 255, 7], IdSource::new().next(time), time, Arc::new(attributes));
        message.key = Some("k\u{e9}y".into());
        message
    }

    fn written(message: &Message) -> Vec<Value> {
        let mut command = command(message, 0);
        write(message, &mut command);
        let fields = command.args_iter().map(|argument| match argument {
            Arg::Simple(bytes) => Value::BulkString(bytes.to_vec()),
            _ => panic!("not a field"),
        });
        fields.collect()
    }

    fn read(fields: Vec<Value>) -> Message {
        EntryReader::new("orders".into()).read(StreamId { millis: 5, number: 7 }, Fields::Values(&fields))
    }

    fn entry(pairs: &[(&str, &str)]) -> Message {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        read(pairs.iter().flat_map(|(name, value)| [bulk(name), bulk(value)]).collect())
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut message = message();
        assert_eq!(read(written(&message)), message);
        message.key = None;
        *message.extensions_mut() = Extensions {
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            tracestate: Some("a=b".into()),
            session: Some(SessionRef { tag: "user-session".into(), subject: "42".into() }),
            dead_letter: Some(DeadLetter {
                reason: "why".into(),
                attempts: 5,
                failed_at: message.time,
                destination: "orders".into(),
                group: "g".into(),
                position: "1-0".into(),
            }),
            redrive_group: Some("g".into()),
        };
        assert_eq!(read(written(&message)), message);
    }

    #[test]
    fn headers_keep_bytes_order_and_names_whatever_they_are_called() {
        let mut message = message();
        for name in TAKEN.into_iter().chain(["header:id", "x", "traceparent", "data", "x", ""]) {
            message.headers.append(name, vec![0xff, name.len() as u8]);
        }
        assert_eq!(read(written(&message)), message);
    }

    #[test]
    fn neighbours_share_what_is_the_same() {
        let (message, mut reader) = (message(), EntryReader::new("orders".into()));
        let mut read = || reader.read(StreamId::default(), Fields::Values(&written(&message)));
        let (one, other) = (read(), read());
        assert!(Arc::ptr_eq(&one.attributes, &other.attributes));
    }

    #[test]
    fn an_event_of_another_publisher_may_say_data_and_leave_out_the_rest() {
        let read = entry(&[("type", "t"), ("specversion", "1.0"), ("data", "x"), ("time", "yesterday")]);
        assert_eq!((&read.payload[..], read.event(), read.source()), (&b"x"[..], "t", "orders"));
        assert_eq!(read.headers.get("time").unwrap().as_bytes(), b"yesterday");
        assert_eq!((read.id.to_string().as_str(), read.time.as_millis()), ("orders/5-7", 5));
    }

    #[test]
    fn a_foreign_entry_has_an_id_of_its_place() {
        let read = entry(&[("id", "5"), ("payload", "x")]);
        assert_eq!(read.id.to_string(), "orders/5-7");
        assert_eq!(read.headers.get("id").unwrap().as_bytes(), b"5");
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(any::<u8>(), 0..12),
            "(header:)?(payload|specversion|id|source|type|time|datacontenttype|partitionkey|data|body)"
                .prop_map(String::into_bytes),
            "traceparent|tracestate|ductape-[a-z]{0,7}|dead-letter-(reason|attempts|failed-at|group)"
                .prop_map(String::into_bytes),
        ]
    }

    fn content() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![vec(any::<u8>(), 0..40), Just(b"1.0".to_vec()), Just(b"3".to_vec())]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_an_entry_holds_it_is_a_message_and_stays_the_same_when_it_is_written_again(
            fields in vec((name(), content()), 0..12),
            odd in prop::option::of(name()),
            ours: bool,
        ) {
            let version = ours.then(|| [b"specversion".to_vec(), b"1.0".to_vec()]);
            let pairs = fields.into_iter().flat_map(|(name, value)| [name, value]);
            let all = version.into_iter().flatten().chain(pairs).chain(odd);
            let message = read(all.map(Value::BulkString).collect());
            prop_assert_eq!(read(written(&message)), message);
        }
    }
}
