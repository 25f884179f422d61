//! A message: payload bytes, metadata after CloudEvents 1.0, headers, and an optional key.
//!
//! A message is moved by value and cloned without copying: the payload and the key are reference-counted
//! [`Bytes`], what many messages share is one [`Attributes`], and headers are one shared slice.

mod attributes;
mod headers;
mod id;
mod key;
mod payloads;

pub use attributes::{Attributes, BatchAttributes};
pub use headers::{HeaderValue, Headers, MAX_HEADER_NAME_LEN};
pub use id::{IdSource, MessageId};
pub use key::{Key, MAX_KEY_LEN};
pub use payloads::Payloads;

use crate::time::Timestamp;
use bytes::Bytes;
use std::sync::Arc;

/// The content type of JSON, which `message(&value)` writes.
pub const JSON: &str = "application/json";
/// The content type of bytes of which nothing is known.
pub const OCTET_STREAM: &str = "application/octet-stream";

/// Metadata that few messages have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// W3C Trace Context `traceparent`, as it came.
    pub traceparent: Option<Arc<str>>,
    /// W3C Trace Context `tracestate`, as it came.
    pub tracestate: Option<Arc<str>>,
    /// The session that the message was published under. Its token never travels.
    pub session: Option<SessionRef>,
    /// Where and why the message was dead-lettered; set only on messages of a dead-letter destination.
    pub dead_letter: Option<DeadLetter>,
    /// The one group that a redriven message is for; the workers of other groups acknowledge it unseen.
    pub redrive_group: Option<Arc<str>>,
}

/// The session of a message: the tag of the catalogue's entry and the verified subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRef {
    /// The session's tag.
    pub tag: Arc<str>,
    /// The value of the claim that the session's entry names as its subject.
    pub subject: Arc<str>,
}

/// The most bytes that the facts of a failure take, with their names and however they are escaped. A provider that bounds
/// metadata keeps so much of its bound for messages that [were given up](Message::was_given_up): what was taken once can
/// be dead-lettered, and redriven.
pub const FACTS_ROOM: usize = 8 * 1024;

/// What a dead letter tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why: the handler's words, serde's, or `rejected`.
    pub reason: Arc<str>,
    /// How often a handler had it.
    pub attempts: u32,
    /// When it was given up.
    pub failed_at: Timestamp,
    /// The destination that it was published to.
    pub destination: Arc<str>,
    /// The group whose handler gave it up.
    pub group: Arc<str>,
    /// Its position in the original destination.
    pub position: Arc<str>,
}

/// A message, as publishers give it and as subscribers get it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The bytes, exactly as the publisher gave them.
    pub payload: Bytes,
    /// What orders it: messages of one key are handled one at a time, in order.
    pub key: Option<Key>,
    /// The user's own headers.
    pub headers: Headers,
    /// Unique, and the same on every redelivery.
    pub id: MessageId,
    /// When it was published.
    pub time: Timestamp,
    /// What it shares with others.
    pub attributes: Arc<Attributes>,
    /// What few have.
    pub extensions: Option<Arc<Extensions>>,
}

impl Message {
    /// A message with these bytes and no key, headers or extensions.
    pub fn new(
        payload: impl Into<Bytes>,
        id: MessageId,
        time: Timestamp,
        attributes: Arc<Attributes>,
    ) -> Self {
        Message {
            payload: payload.into(),
            key: None,
            headers: Headers::default(),
            id,
            time,
            attributes,
            extensions: None,
        }
    }

    /// The event that it was published to, as text; of a foreign message, its CloudEvents type if it has one.
    pub fn event(&self) -> &str {
        &self.attributes.event
    }

    /// Where it came from.
    pub fn source(&self) -> &str {
        &self.attributes.source
    }

    /// What its bytes are.
    pub fn content_type(&self) -> &str {
        &self.attributes.content_type
    }

    /// The session that it was published under.
    pub fn session(&self) -> Option<&SessionRef> {
        self.extensions.as_ref()?.session.as_ref()
    }

    /// Whether it was given up once: it is a dead letter, or one that was redriven.
    pub fn was_given_up(&self) -> bool {
        let given_up = |it: &Extensions| it.dead_letter.is_some() || it.redrive_group.is_some();
        self.extensions.as_deref().is_some_and(given_up)
    }

    /// Why it was dead-lettered, where it was.
    pub fn dead_letter(&self) -> Option<&DeadLetter> {
        self.extensions.as_ref()?.dead_letter.as_ref()
    }

    /// Whether it was redriven, and for another group than this one, which has had it before.
    pub(crate) fn is_for_another_group(&self, group: &str) -> bool {
        let redriven = self.extensions.as_ref().and_then(|extensions| extensions.redrive_group.as_deref());
        redriven.is_some_and(|of| of != group)
    }

    /// Changes the extensions, copying them only where they are shared.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        Arc::make_mut(self.extensions.get_or_insert_default())
    }

    /// What a provider's limit counts: payload, key and headers, in bytes.
    #[inline]
    pub fn size(&self) -> usize {
        match (&self.key, self.headers.is_empty()) {
            (None, true) => self.payload.len(),
            _ => self.size_with_key_and_headers(),
        }
    }

    /// Apart, so that counting a batch of plain messages is a tight loop.
    #[inline(never)]
    fn size_with_key_and_headers(&self) -> usize {
        self.payload.len() + self.key.as_ref().map_or(0, |k| k.as_bytes().len()) + self.headers.size()
    }
}
