//! What a provider can do, as data. The guard checks it once, in core, before any provider's code runs; the
//! table in the documents is made from it; the testkit tries every line of it.

use serde::Serialize;
use std::time::Duration;

/// What a provider promises for one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// In what order a group gets its messages.
    pub ordering: Ordering,
    /// Whether every group can have its own copy.
    pub groups: Groups,
    /// Whether a new group can be given what is still kept.
    pub replay: Replay,
    /// How long a retry can be put off by the provider itself.
    pub delay: Delay,
    /// Whether the attempt number survives the death of a consumer.
    pub attempts: Attempts,
    /// Whether a taken message survives the death of the provider.
    pub durability: Durability,
    /// Who puts concurrent publishes together.
    pub batching: Batching,
    /// What header values may hold.
    pub header_values: HeaderValues,
    /// Whether a header's name may stand more than once.
    pub header_names: HeaderNames,
    /// The most headers, the user's own; `None` where only the size counts.
    pub max_headers: Option<usize>,
    /// The largest message in bytes, as [`crate::Message::size`] counts it.
    pub max_message_bytes: usize,
}

/// In what order a group gets its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ordering {
    /// In none that one could rely on.
    None,
    /// Messages of one key in the order they were taken, also while members of a group compete.
    PerKey,
    /// All messages in the order they were taken.
    Total,
}

/// Whether every group can have its own copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Groups {
    /// One group; a second is refused.
    One,
    /// As many as are opened.
    Many,
}

/// Whether a new group can be given what is still kept (`start: earliest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Replay {
    /// No; asking is refused.
    None,
    /// All that retention has not taken away.
    Kept,
}

/// How long a retry can be put off by the provider itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Delay {
    /// Not at all: a retry comes back at once, and the worker waits.
    None,
    /// Up to this long.
    UpTo(Duration),
}

/// Whether the attempt number survives the death of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Attempts {
    /// No: a redelivery may say 1 again.
    Forgotten,
    /// Of every message.
    Counted,
    /// Of every message, and too high rather than too low: what was fetched for a consumer that ended before
    /// handing it out counts as well.
    Overcounted,
    /// Of the message that a partition stands at.
    CountedAtWatermark,
}

/// What a taken message survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Durability {
    /// Nothing: it lives in this process.
    Process,
    /// The death of every process, not of the machine's power.
    ProcessCrash,
    /// The death of the provider and the loss of power, as far as its own settings say.
    Stored,
    /// It may be lost on the way (Redis pub/sub).
    FireAndForget,
}

/// Who puts concurrent publishes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Batching {
    /// The provider or its client: core hands every publish on at once.
    Provider,
    /// Core, up to so many messages in one call.
    Core {
        /// The most messages of one call.
        max_messages: usize,
        /// The most bytes of one call.
        max_bytes: usize,
        /// How many calls may be under way at once, beside one that a caller who is alone makes itself.
        in_flight: usize,
    },
}

/// What header values may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HeaderValues {
    /// UTF-8 only.
    Text,
    /// Any bytes.
    Bytes,
}

/// Whether a header's name may stand more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HeaderNames {
    /// Once.
    Unique,
    /// As often as one likes.
    Repeatable,
}
