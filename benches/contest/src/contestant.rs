//! What a contestant must be able to do.

use crate::{Corpus, Messages, Result, Seen, Setup};
use bytes::Bytes;
use std::sync::Arc;

/// A client of a provider that is measured. Each call is the fastest honest use of it: pipelined, in batches, and
/// with the promises of the others.
pub trait Contestant: Send + Sync + Sized + 'static {
    /// Connects, and makes the destination and its group.
    fn open(setup: &Setup) -> impl Future<Output = Result<Self>> + Send;

    /// Publishes all messages, and returns when each is confirmed.
    fn publish(self: Arc<Self>, messages: Messages) -> impl Future<Output = Result<()>> + Send;

    /// Publishes one message, and returns when it is confirmed. Many calls are under way at once.
    fn publish_one(self: Arc<Self>, message: Bytes) -> impl Future<Output = Result<()>> + Send;

    /// Consumes until every message is seen, and returns when every acknowledgement is answered and the consumer
    /// is closed.
    fn consume(self: Arc<Self>, seen: Seen) -> impl Future<Output = Result<()>> + Send;

    /// How many messages are not acknowledged, by the server's own word; none where it cannot be asked.
    fn left(&self) -> impl Future<Output = Result<Option<u64>>> + Send {
        async { Ok(None) }
    }
}

/// How much is under way at once: the same for all contestants of a corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Messages of one batch, where a client publishes in batches.
    pub batch: usize,
    /// Batches that are under way at once.
    pub batches: usize,
    /// Deliveries that are not acknowledged.
    pub deliveries: usize,
}

impl Windows {
    /// Those for payloads of this corpus: never more than a few MiB are under way.
    pub fn of(corpus: Corpus) -> Self {
        match corpus.bytes() {
            0..=4096 => Windows { batch: 256, batches: 8, deliveries: 1024 },
            _ => Windows { batch: 16, batches: 4, deliveries: 64 },
        }
    }

    /// Messages that are not confirmed yet.
    pub fn messages(self) -> usize {
        self.batch * self.batches
    }
}
