//! The Google Pub/Sub provider of Ductape (`type: GOOGLE_PUBSUB`): a topic a destination, a subscription a group, ordering
//! keys. The crate's README has its config, what it promises, the permissions that it needs, and its quirks.
//!
//! # How it speaks to Pub/Sub
//! Topics and subscriptions are made and looked at with Google's own client (`google-cloud-pubsub`), over REST, and every
//! credential comes from Google's `google-cloud-auth`. Messages themselves go over gRPC by the four calls of the
//! service's data plane: `Publish`, `StreamingPull`, `Acknowledge` and `ModifyAckDeadline`. Google's client wraps these in
//! types that cannot keep what the [contract](ductape_core::broker) asks for: it throws away the answer to an
//! acknowledgement unless delivery is exactly once, and holds each back for up to 100 ms; it extends leases by itself,
//! whether or not anybody still works on the message; and it keeps a task for every ordering key that it ever saw.

mod admin;
mod broker;
mod consumer;
mod credentials;
mod error;
mod link;
mod message;
mod names;
mod outstanding;
mod pack;
mod protocol;
mod publisher;
mod pull;
mod turns;

pub use broker::PubSubProvider;
pub use message::MAX_MESSAGE_BYTES;

#[cfg(test)]
mod tests;
