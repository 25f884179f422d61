//! A message in a subscriber's hands, and what is said about it in the end.

use crate::message::{Message, MessageId};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Where a message stands in its destination. For people and dead letters; core never calculates with it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Position {
    /// The n-th of the destination, or of its only partition.
    Sequence(u64),
    /// The n-th of a partition.
    Partition {
        /// The partition.
        partition: u32,
        /// The offset in it.
        offset: u64,
    },
    /// An entry of a Redis stream, by its id: the server's clock, and a number within the millisecond.
    Stream {
        /// Milliseconds since 1970.
        millis: u64,
        /// The number.
        number: u64,
    },
    /// What the provider calls it.
    Text(Arc<str>),
    /// The provider has no positions: the message's own id.
    Id(MessageId),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Sequence(n) => write!(f, "{n}"),
            Position::Partition { partition, offset } => write!(f, "{partition}/{offset}"),
            Position::Stream { millis, number } => write!(f, "{millis}-{number}"),
            Position::Text(text) => f.write_str(text),
            Position::Id(id) => fmt::Display::fmt(id, f),
        }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a provider needs to settle a delivery. Opaque to everybody else, and good only for the consumer
/// that handed it out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Token {
    /// Two numbers: a sequence and a lease, a partition and an offset, a channel and a tag.
    Numbers(u64, u64),
    /// A receipt handle or an ack id.
    Text(Arc<str>),
}

/// A message as a consumer hands it out.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// How often it has been handed to this group, this time included: 1 at first. Where the provider keeps
    /// no count ([`crate::capability::Attempts::Forgotten`]) the worker's own retries alone count it up.
    pub attempt: u32,
    /// Where it stands.
    pub position: Position,
    /// What settles it.
    pub token: Token,
}

/// Is told of each failed attempt that a worker will make again: the delivery with the attempt that failed, why, and
/// how long the next one waits. For metrics, and for tests. It runs on the worker's own task, so it must not block.
#[derive(Clone, Default)]
pub struct OnRetry(Option<Arc<RetryHook>>);

type RetryHook = dyn Fn(&Delivery, &str, Duration) + Send + Sync;

impl OnRetry {
    /// Calls this.
    pub fn new(hook: impl Fn(&Delivery, &str, Duration) + Send + Sync + 'static) -> Self {
        OnRetry(Some(Arc::new(hook)))
    }

    /// Tells of one. A hook that panics must not take the worker along.
    pub(crate) fn tell(&self, delivery: &Delivery, reason: &str, delay: Duration) {
        let Some(hook) = &self.0 else { return };
        if catch_unwind(AssertUnwindSafe(|| hook(delivery, reason, delay))).is_err() {
            tracing::warn!(id = %delivery.message.id, "what is told of retries panicked");
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for OnRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "OnRetry(set)" } else { "OnRetry(none)" })
    }
}

/// What a consumer is told about one of its deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which.
    pub token: Token,
    /// What.
    pub verdict: Verdict,
}

/// What is said about a delivery. Dead-lettering and discarding are core's: a publish and an ack, an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done and never comes back to this group.
    Ack,
    /// It failed: hand it out again, not before this long from now, and count the attempt. A delay longer than
    /// [`crate::capability::Delay`] allows is not asked for.
    Retry(Duration),
    /// It was not tried: hand it out again as if it had never been, and do not count the attempt where that
    /// can be helped.
    Release,
}
