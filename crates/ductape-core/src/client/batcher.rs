//! Puts concurrent publishes together for providers whose client does not.
//!
//! ```text
//!  publish(k messages) ─▶ queue ─▶ one task: as many calls as fit one batch ─▶ Publisher::publish
//!        ▲                                                                     │
//!        └────────────── its own k results ◀───────────────────────────────────┘
//! ```
//!
//! While calls are under way others collect, so that batches grow with load and nothing ever waits for a
//! batch to fill.

use crate::broker::Publisher;
use crate::delivery::Position;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::message::Message;
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Publish calls that may wait in the queue; past them publish waits.
const QUEUED_CALLS: usize = 1024;

/// What one call of the provider may hold, and how many may be under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_messages: usize,
    pub(super) max_bytes: usize,
    pub(super) in_flight: usize,
}

struct Call {
    messages: Vec<Message>,
    done: oneshot::Sender<Vec<Result<Position>>>,
}

/// A publisher that collects what many tasks publish.
pub(super) struct Batcher {
    queue: mpsc::Sender<Call>,
    limits: Limits,
}

impl Batcher {
    /// Starts the collecting task. It ends when the batcher is dropped and its queue is empty.
    pub(super) fn start(publisher: Arc<dyn Publisher>, limits: Limits) -> Self {
        let (queue, calls) = mpsc::channel(QUEUED_CALLS);
        tokio::spawn(collect(publisher, limits, calls));
        Batcher { queue, limits }
    }
}

#[async_trait]
impl Publisher for Batcher {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        let mut results = Vec::with_capacity(batch.len());
        let mut pieces = split(batch, self.limits).into_iter();
        let mut waiting = Vec::with_capacity(pieces.len());
        while pieces.len() > 0 {
            // All places at once, so that no later call gets in between.
            let Ok(places) = self.queue.reserve_many(pieces.len().min(QUEUED_CALLS)).await else {
                waiting.extend(pieces.by_ref().map(|messages| (messages.len(), None)));
                break;
            };
            for (place, messages) in places.zip(pieces.by_ref()) {
                let (done, answer) = oneshot::channel();
                waiting.push((messages.len(), Some(answer)));
                place.send(Call { messages, done });
            }
        }
        for (count, answer) in waiting {
            match answer {
                None => results.extend((0..count).map(|_| Err(Error::closed("the publisher")))),
                Some(answer) => match answer.await {
                    Ok(part) => results.extend(part),
                    Err(_) => results.extend((0..count).map(|_| Err(unanswered()))),
                },
            }
        }
        results
    }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::ProviderFailed, "the publish ended without an answer").with_retry(Retry::Uncertain)
}

/// Cuts a batch into pieces that each fit one call. A single message over the byte limit is a piece alone.
fn split(batch: Vec<Message>, limits: Limits) -> Vec<Vec<Message>> {
    let mut pieces: Vec<Vec<Message>> = Vec::new();
    let mut bytes = 0;
    for message in batch {
        let size = message.size();
        match pieces.last_mut() {
            Some(piece) if piece.len() < limits.max_messages && bytes + size <= limits.max_bytes => {
                bytes += size;
                piece.push(message);
            }
            _ => {
                bytes = size;
                pieces.push(vec![message]);
            }
        }
    }
    pieces
}

async fn collect(publisher: Arc<dyn Publisher>, limits: Limits, mut calls: mpsc::Receiver<Call>) {
    let mut under_way = FuturesUnordered::new();
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(call) => call,
            None => tokio::select! {
                biased;
                Some(()) = under_way.next() => continue,
                call = calls.recv() => match call {
                    Some(call) => call,
                    None => break,
                },
            },
        };
        while under_way.len() >= limits.in_flight.max(1) {
            under_way.next().await;
        }
        let (batch, rest) = fill(first, &mut calls, limits);
        left_over = rest;
        under_way.push(publish(Arc::clone(&publisher), batch));
    }
    while under_way.next().await.is_some() {}
}

/// Adds queued calls while they fit; the first that does not comes back.
fn fill(first: Call, calls: &mut mpsc::Receiver<Call>, limits: Limits) -> (Vec<Call>, Option<Call>) {
    let mut messages = first.messages.len();
    let mut bytes: usize = first.messages.iter().map(Message::size).sum();
    let mut batch = vec![first];
    while messages < limits.max_messages
        && let Ok(call) = calls.try_recv()
    {
        messages += call.messages.len();
        bytes += call.messages.iter().map(Message::size).sum::<usize>();
        if messages > limits.max_messages || bytes > limits.max_bytes {
            return (batch, Some(call));
        }
        batch.push(call);
    }
    (batch, None)
}

async fn publish(publisher: Arc<dyn Publisher>, batch: Vec<Call>) {
    let mut messages = Vec::with_capacity(batch.iter().map(|call| call.messages.len()).sum());
    let mut answers = Vec::with_capacity(batch.len());
    for call in batch {
        answers.push((call.messages.len(), call.done));
        messages.extend(call.messages);
    }
    // A provider that panics must not take the collecting task along. Nothing is then known of the batch, and
    // the callers, whose answers are dropped, say so.
    let publishing = AssertUnwindSafe(publisher.publish(messages)).catch_unwind();
    let Ok(results) = publishing.await else { return };
    let mut results = results.into_iter();
    for (count, done) in answers {
        // A caller that went away does not want its results.
        let _ = done.send(results.by_ref().take(count).collect());
    }
}
