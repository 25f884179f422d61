//! Messages as SQS carries them: the payload is the body, metadata and headers are attributes.

use crate::attributes::{self, Attributes, Written, is_text};
use aws_sdk_sqs::types::{
    Message as Native, MessageSystemAttributeName as System, SendMessageBatchRequestEntry,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ductape_core::message::FACTS_ROOM;
use ductape_core::wire::Reader;
use ductape_core::{Error, ErrorKind, Key, Message, MessageId, Position, Result, Timestamp};
use std::sync::Arc;

/// What SQS takes: of one message with its attributes, and of one request (SQS Developer Guide, "Message quotas").
pub(crate) const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// Room for metadata, those of a dead letter not counted.
const METADATA_BYTES: usize = 8 * 1024;

/// The largest message, as [`Message::size`] counts it, that SQS takes as text. A body that is not text grows by a
/// third, since it travels as base64.
pub const MAX_MESSAGE_BYTES: usize = MAX_REQUEST_BYTES - METADATA_BYTES - FACTS_ROOM;

/// The longest message group id and deduplication id.
const MAX_ID: usize = 128;
/// How a body that is no text stands for the payload.
const BASE64: &str = "base64";
/// How a body stands for no payload: SQS takes no empty one.
const EMPTY: &str = "empty";

/// A message that is fit to go out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    body: String,
    attributes: Attributes,
    /// Of a FIFO queue: the message group, and what SQS knows a repeated send by.
    pub(crate) group: Option<Arc<str>>,
    deduplication: Option<String>,
    /// What it counts against the limit.
    pub(crate) bytes: usize,
}

/// A message as it goes out.
///
/// # Errors
/// `MESSAGE_TOO_LARGE` where it does not fit with its metadata, or not as base64.
pub(crate) fn write(message: &Message, fifo: bool) -> Result<Outgoing> {
    let (body, marker) = body(&message.payload);
    let Written { attributes, bytes } = attributes::write(message, marker);
    let bytes = bytes + body.len();
    let most = MAX_REQUEST_BYTES - if message.was_given_up() { 0 } else { FACTS_ROOM };
    if bytes > most {
        return Err(too_large(bytes, most, marker == Some(BASE64)));
    }
    Ok(Outgoing {
        group: fifo.then(|| group(message.key.as_ref(), &message.id).into()),
        deduplication: fifo.then(|| deduplication(message)),
        body,
        attributes,
        bytes,
    })
}

fn body(payload: &Bytes) -> (String, Option<&'static str>) {
    match std::str::from_utf8(payload) {
        Ok("") => ("-".to_owned(), Some(EMPTY)),
        Ok(text) if is_text(text) => (text.to_owned(), None),
        _ => (STANDARD.encode(payload), Some(BASE64)),
    }
}

fn too_large(bytes: usize, most: usize, encoded: bool) -> Error {
    let what = if encoded { " as base64, since its body is not text," } else { "" };
    Error::new(
        ErrorKind::MessageTooLarge,
        format!("the message takes {bytes} bytes{what} with its metadata, and AWS_SQS takes {most}"),
    )
    .with_help("publish less, or store the payload elsewhere and publish where it is")
}

impl Outgoing {
    /// The entry of a batch under this id.
    pub(crate) fn entry(self, id: usize) -> Option<SendMessageBatchRequestEntry> {
        let entry = SendMessageBatchRequestEntry::builder()
            .id(id.to_string())
            .message_body(self.body)
            .set_message_attributes(Some(self.attributes))
            .set_message_group_id(self.group.as_deref().map(str::to_owned))
            .set_message_deduplication_id(self.deduplication);
        // With an id and a body an entry is always built.
        entry.build().ok()
    }
}

/// The message group: the key, or the id of what has none, where SQS takes it as such.
fn group(key: Option<&Key>, id: &MessageId) -> String {
    match key {
        Some(key) => match key.as_str() {
            Some(text) if is_id(text) => text.to_owned(),
            _ => digest(&[key.as_bytes()]),
        },
        None => legal_id(id.to_string()),
    }
}

/// What SQS drops a repeated send by, for five minutes. That must not meet a message that comes back under its id
/// on purpose: a dead letter, or one that was redriven.
fn deduplication(message: &Message) -> String {
    let id = message.id.to_string();
    let Some(extensions) = &message.extensions else { return legal_id(id) };
    if let Some(dead) = &extensions.dead_letter {
        let (failed_at, attempts) = (dead.failed_at.to_string(), dead.attempts.to_string());
        return digest(&[id.as_bytes(), failed_at.as_bytes(), attempts.as_bytes()]);
    }
    match &extensions.redrive_group {
        // A redrive knows nothing of the ones before, so each publish of one is another message.
        Some(_) => digest(&[id.as_bytes(), &fastrand::u128(..).to_be_bytes()]),
        None => legal_id(id),
    }
}

fn legal_id(text: String) -> String {
    if is_id(&text) { text } else { digest(&[text.as_bytes()]) }
}

/// Letters, digits and punctuation of ASCII, up to 128.
fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// FNV-1a, 128 bits, each part ended: a name for what SQS takes no name of.
fn digest(parts: &[&[u8]]) -> String {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = parts.iter().flat_map(|part| part.iter().map(|byte| u128::from(*byte)).chain([0x100]));
    let hash = bytes.fold(BASIS, |hash, byte| (hash ^ byte).wrapping_mul(PRIME));
    format!("fnv-{hash:032x}")
}

/// A message that was received.
pub(crate) struct Incoming {
    pub(crate) message: Message,
    pub(crate) attempt: u32,
    pub(crate) position: Position,
    pub(crate) receipt: String,
    pub(crate) group: Option<Arc<str>>,
}

/// What a receive gave. `None` where it has no receipt, without which nothing can be done with it.
pub(crate) fn read(queue: &str, native: Native, received: Timestamp) -> Option<Incoming> {
    let receipt = native.receipt_handle?;
    let mut system = native.attributes.unwrap_or_default();
    let mut reader = Reader::new("");
    let read = attributes::read(native.message_attributes.unwrap_or_default(), &mut reader);
    let body = native.body.unwrap_or_default();
    let payload = payload(body, read.body, &mut reader);
    let sent = system.get(&System::SentTimestamp).and_then(|millis| millis.parse::<i64>().ok());
    let sent = sent.map_or(received, |millis| Timestamp::from_micros(millis.saturating_mul(1000)));
    let place = native.message_id.unwrap_or_default();
    let mut message = reader.finish(payload, queue, &place, sent);
    read.headers.iter().for_each(|(name, value)| message.headers.append(name, value.clone()));
    let group_id = system.remove(&System::MessageGroupId);
    if message.key.is_none()
        && let Some(foreign) = group_id.as_ref().filter(|of| **of != group(None, &message.id))
    {
        message.key = Some(foreign.into());
    }
    let attempt = system.get(&System::ApproximateReceiveCount).and_then(|count| count.parse().ok());
    Some(Incoming {
        message,
        attempt: attempt.unwrap_or(1).max(1),
        position: Position::Text(place.into()),
        receipt,
        group: group_id.map(Into::into),
    })
}

/// The payload that a body stands for. A marker of somebody else's stays a header.
fn payload(body: String, marker: Option<String>, reader: &mut Reader<'_>) -> Bytes {
    match marker.as_deref() {
        None => {}
        Some(EMPTY) => return Bytes::new(),
        Some(BASE64) => {
            if let Ok(bytes) = STANDARD.decode(&body) {
                return bytes.into();
            }
            reader.header(attributes::BODY, BASE64);
        }
        Some(other) => reader.header(attributes::BODY, other),
    }
    Bytes::from(body)
}

#[cfg(test)]
mod tests;
