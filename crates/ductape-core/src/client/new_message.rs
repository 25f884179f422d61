//! A message that a user wants to publish.

use crate::error::{Error, ErrorKind, Result};
use crate::message::{Extensions, HeaderValue, Headers, JSON, Key, OCTET_STREAM, SessionRef};
use bytes::Bytes;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// A message to be published, before it has an id and a time.
///
/// ```
/// use ductape_core::client::NewMessage;
/// let message = NewMessage::json(&serde_json::json!({ "orderId": "12345" }))?
///     .key("cust_789")
///     .header("source-ip", "192.0.2.7");
/// # let _ = message;
/// # Ok::<(), ductape_core::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a message does nothing until it is published"]
pub struct NewMessage {
    pub(super) payload: Bytes,
    pub(super) content_type: ContentType,
    pub(super) key: Option<Key>,
    pub(super) headers: Headers,
    pub(super) extensions: Option<Arc<Extensions>>,
    pub(super) session: Option<Box<SessionToken>>,
}

/// What the payload is. The two common ones cost nothing to carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ContentType {
    Json,
    OctetStream,
    Other(Arc<str>),
}

impl ContentType {
    pub(super) fn as_str(&self) -> &str {
        match self {
            ContentType::Json => JSON,
            ContentType::OctetStream => OCTET_STREAM,
            ContentType::Other(other) => other,
        }
    }
}

/// A session's tag and its token, which never travels and is never shown.
#[derive(Clone)]
pub(super) struct SessionToken {
    pub(super) tag: String,
    pub(super) token: String,
}

impl NewMessage {
    /// A message of a value as JSON.
    ///
    /// # Errors
    /// `MESSAGE_INVALID` where serde cannot write the value.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let bytes = serde_json::to_vec(value).map_err(|error| {
            Error::new(ErrorKind::MessageInvalid, "the message cannot be written as JSON").with_source(error)
        })?;
        Ok(Self::of(bytes.into(), ContentType::Json))
    }

    /// A message of JSON that is already written. The bytes are published as they are.
    pub fn json_bytes(bytes: impl Into<Bytes>) -> Self {
        Self::of(bytes.into(), ContentType::Json)
    }

    /// A message of any bytes (`application/octet-stream`).
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self::of(bytes.into(), ContentType::OctetStream)
    }

    fn of(payload: Bytes, content_type: ContentType) -> Self {
        let (key, headers) = (None, Headers::default());
        NewMessage { payload, content_type, key, headers, extensions: None, session: None }
    }

    /// Sets the key: messages of one key are handled one at a time, in order. 1 to 1,024 bytes.
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets a header, in the place of one of the same name.
    pub fn header(mut self, name: impl Into<Arc<str>>, value: impl Into<HeaderValue>) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets all headers.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the content type, for what is neither JSON nor plain bytes.
    pub fn content_type(mut self, content_type: impl AsRef<str>) -> Self {
        self.content_type = match content_type.as_ref() {
            JSON => ContentType::Json,
            OCTET_STREAM => ContentType::OctetStream,
            other => ContentType::Other(other.into()),
        };
        self
    }

    /// Passes the W3C trace context on: `traceparent` and, where there is one, `tracestate`.
    pub fn trace(mut self, traceparent: impl Into<Arc<str>>, tracestate: Option<&str>) -> Self {
        let extensions = Arc::make_mut(self.extensions.get_or_insert_default());
        extensions.traceparent = Some(traceparent.into());
        extensions.tracestate = tracestate.map(Into::into);
        self
    }

    /// Publishes under a session of the catalogue: its token (a JWT) is verified, and the session's tag and subject
    /// travel with the message. The token does not.
    pub fn session(mut self, tag: impl Into<String>, token: impl Into<String>) -> Self {
        self.session = Some(Box::new(SessionToken { tag: tag.into(), token: token.into() }));
        self
    }

    pub(super) fn verified(&mut self, session: SessionRef) {
        Arc::make_mut(self.extensions.get_or_insert_default()).session = Some(session);
        self.session = None;
    }
}

impl fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewMessage")
            .field("bytes", &self.payload.len())
            .field("content_type", &self.content_type)
            .field("key", &self.key)
            .field("headers", &self.headers)
            .field("session", &self.session.as_ref().map(|session| &session.tag))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_payload_nor_token() {
        let message = NewMessage::raw("payload-secret").session("user-session", "token-secret");
        let shown = format!("{message:?}");
        assert!(shown.contains("user-session") && !shown.contains("secret"), "{shown}");
    }
}
