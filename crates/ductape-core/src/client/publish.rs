//! A publish as users write it: where to, and what.

use super::new_message::NewMessage;
use crate::error::Result;
use crate::message::{HeaderValue, Key};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A message on its way to an event.
///
/// ```
/// use ductape_core::client::Publish;
/// let publish = Publish::new("order-events:new-orders")
///     .message(&serde_json::json!({ "orderId": "12345" }))?
///     .env("prd")
///     .key("cust_789");
/// # let _ = publish;
/// # Ok::<(), ductape_core::Error>(())
/// ```
///
/// It can be read as data too, with the fields `event`, `env`, `product`, `message`, `key`, `headers` and `session`
/// (`tag`, `token`); all but `event` and `message` may be left out, and unknown ones are refused.
///
/// ```
/// let publish: ductape_core::client::Publish = serde_json::from_value(serde_json::json!({
///     "env": "prd",
///     "event": "order-events:new-orders",
///     "message": { "orderId": "12345" },
/// }))?;
/// # let _ = publish;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a publish does nothing until it is given to `broker().publish`"]
pub struct Publish {
    pub(super) event: String,
    pub(super) env: Option<String>,
    pub(super) product: Option<String>,
    pub(super) message: NewMessage,
}

impl Publish {
    /// A publish to this event, of an empty payload so far.
    pub fn new(event: impl Into<String>) -> Self {
        Publish { event: event.into(), env: None, product: None, message: NewMessage::raw(Bytes::new()) }
    }

    /// Sets the payload: a value, as JSON.
    ///
    /// # Errors
    /// `MESSAGE_INVALID` where serde cannot write the value.
    pub fn message<T: Serialize + ?Sized>(self, value: &T) -> Result<Self> {
        Ok(self.with(NewMessage::json(value)?))
    }

    /// Sets the payload: bytes, as they are.
    pub fn payload(self, bytes: impl Into<Bytes>) -> Self {
        self.with(NewMessage::raw(bytes))
    }

    /// Keeps what was said before about key, headers and session.
    fn with(mut self, new: NewMessage) -> Self {
        (self.message.payload, self.message.content_type) = (new.payload, new.content_type);
        self
    }

    /// The env; else the client's.
    pub fn env(mut self, env: impl Into<String>) -> Self {
        self.env = Some(env.into());
        self
    }

    /// The product, for those who want it checked: a catalogue has one.
    pub fn product(mut self, product: impl Into<String>) -> Self {
        self.product = Some(product.into());
        self
    }

    /// The key, as [`NewMessage::key`].
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.message = self.message.key(key);
        self
    }

    /// A header, as [`NewMessage::header`].
    pub fn header(mut self, name: impl Into<Arc<str>>, value: impl Into<HeaderValue>) -> Self {
        self.message = self.message.header(name, value);
        self
    }

    /// The content type, as [`NewMessage::content_type`]; after the payload.
    pub fn content_type(mut self, content_type: impl AsRef<str>) -> Self {
        self.message = self.message.content_type(content_type);
        self
    }

    /// The trace context, as [`NewMessage::trace`].
    pub fn trace(mut self, traceparent: impl Into<Arc<str>>, tracestate: Option<&str>) -> Self {
        self.message = self.message.trace(traceparent, tracestate);
        self
    }

    /// The session, as [`NewMessage::session`].
    pub fn session(mut self, tag: impl Into<String>, token: impl Into<String>) -> Self {
        self.message = self.message.session(tag, token);
        self
    }
}

/// A publish before its message is written as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPublish {
    event: String,
    env: Option<String>,
    product: Option<String>,
    message: Value,
    key: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    session: Option<RawSession>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSession {
    tag: String,
    token: String,
}

impl<'de> Deserialize<'de> for Publish {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawPublish::deserialize(deserializer)?;
        let mut message = NewMessage::json(&raw.message).map_err(serde::de::Error::custom)?;
        if let Some(key) = raw.key {
            message = message.key(key);
        }
        for (name, value) in raw.headers {
            message = message.header(name, value);
        }
        if let Some(session) = raw.session {
            message = message.session(session.tag, session.token);
        }
        Ok(Publish { event: raw.event, env: raw.env, product: raw.product, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_publish_is_read_with_everything_that_it_may_say() {
        let publish: Publish = serde_json::from_value(json!({
            "event": "a:b", "env": "prd", "product": "shop", "message": { "n": 1 }, "key": "k",
            "headers": { "source-ip": "192.0.2.7" }, "session": { "tag": "user-session", "token": "t" },
        }))
        .unwrap();
        assert_eq!((publish.env.as_deref(), publish.product.as_deref()), (Some("prd"), Some("shop")));
        let message = publish.message;
        assert_eq!((&message.payload[..], message.key), (&br#"{"n":1}"#[..], Some("k".into())));
        assert_eq!(message.headers.get("source-ip").unwrap().as_str(), Some("192.0.2.7"));
        assert_eq!(message.session.unwrap().tag, "user-session");
    }

    #[test]
    fn a_publish_with_a_misspelt_or_a_missing_field_is_refused() {
        for (value, fault) in [
            (json!({ "event": "a:b", "mesage": 1, "message": 1 }), "unknown field `mesage`"),
            (json!({ "event": "a:b" }), "missing field `message`"),
            (json!({ "event": "a:b", "message": 1, "session": { "tag": "s" } }), "missing field `token`"),
        ] {
            let error = serde_json::from_value::<Publish>(value).unwrap_err();
            assert!(error.to_string().contains(fault), "{error}");
        }
    }
}
