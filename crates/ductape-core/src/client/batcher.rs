//! Puts concurrent publishes together for providers whose client does not.
//!
//! ```text
//!                    ┌─ the only one ─▶ by the caller itself ─────────┐
//!  publish(messages) ┤                                                ├─▶ Publisher::publish
//!                    └─ else ─▶ queue ─▶ one task: what fits together ┘          │
//!                                  ◀──────────── to each caller its own results ─┘
//! ```
//!
//! While calls are under way others collect, so that batches grow with load, and nothing ever waits for a batch to fill.
//! A caller who is alone pays for no task in between. Whoever begins while another waits goes behind it.

use crate::broker::Publisher;
use crate::delivery::Position;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::message::Message;
use crate::turns::{Turns, hold_until_begun};
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::mpsc::PermitIterator;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};

/// Publish calls that may wait in the queue; past them publish waits.
const QUEUED_CALLS: usize = 1024;

/// What one call of the provider may hold, and how many may be under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) max_messages: usize,
    pub(super) max_bytes: usize,
    pub(super) in_flight: usize,
}

/// A publisher that collects what many tasks publish.
pub(super) struct Batcher {
    calls: Arc<Calls>,
    queue: mpsc::Sender<Queued>,
    /// The order of those who wait for room in the queue.
    turns: Turns,
}

/// Calls of the provider.
struct Calls {
    publisher: Arc<dyn Publisher>,
    limits: Limits,
    /// One permit, for a call that its caller makes itself. The task's calls need none: they go on also where that
    /// caller does not.
    own: Semaphore,
    /// One more holds it for each that is not with the provider yet and that others must not overtake.
    waits: Arc<()>,
}

/// A call that waits for the collecting task.
struct Queued {
    messages: Vec<Message>,
    done: oneshot::Sender<Vec<Result<Position>>>,
    waits: Arc<()>,
}

impl Batcher {
    /// Starts the collecting task. It ends when the batcher is dropped and its queue is empty.
    pub(super) fn start(publisher: Arc<dyn Publisher>, limits: Limits) -> Self {
        let (queue, queued) = mpsc::channel(QUEUED_CALLS);
        let calls = Arc::new(Calls { publisher, limits, own: Semaphore::new(1), waits: Arc::default() });
        tokio::spawn(collect(Arc::clone(&calls), queued));
        Batcher { calls, queue, turns: Turns::default() }
    }

    async fn enqueue(&self, pieces: Vec<Vec<Message>>) -> Vec<Result<Position>> {
        let mut waiting = Vec::with_capacity(pieces.len());
        let mut pieces = pieces.into_iter();
        let waits = Arc::clone(&self.calls.waits);
        let turn = match self.turns.at_once(|| self.queue.try_reserve_many(pieces.len()).ok()) {
            Ok(places) => {
                queue(places, &mut pieces, &waits, &mut waiting);
                None
            }
            Err(place) => Some(place.turn().await),
        };
        // No later call gets in between: it is in its turn, or has had all its places at once.
        while pieces.len() > 0 {
            let Ok(places) = self.queue.reserve_many(pieces.len().min(QUEUED_CALLS)).await else {
                waiting.extend(pieces.by_ref().map(|messages| (messages.len(), None)));
                break;
            };
            queue(places, &mut pieces, &waits, &mut waiting);
        }
        drop((turn, waits));
        let mut results = Vec::with_capacity(waiting.iter().map(|(count, _)| count).sum());
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

/// What comes of a piece: how many messages it holds, and its answer where it could be queued.
type Waiting = (usize, Option<oneshot::Receiver<Vec<Result<Position>>>>);

/// Puts pieces into places of the queue, while there are both.
fn queue(
    places: PermitIterator<'_, Queued>,
    pieces: &mut std::vec::IntoIter<Vec<Message>>,
    waits: &Arc<()>,
    waiting: &mut Vec<Waiting>,
) {
    for (place, messages) in places.zip(pieces) {
        let (done, answer) = oneshot::channel();
        waiting.push((messages.len(), Some(answer)));
        place.send(Queued { messages, done, waits: Arc::clone(waits) });
    }
}

#[async_trait]
impl Publisher for Batcher {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        let mut pieces = split(batch, self.calls.limits);
        let alone = (pieces.len() == 1).then(|| self.calls.alone()).flatten();
        match alone {
            Some(_permit) => self.calls.publisher.publish(pieces.remove(0)).await,
            None => self.enqueue(pieces).await,
        }
    }
}

impl Calls {
    /// The permit for a call that its caller makes itself: it overtakes none that waits.
    fn alone(&self) -> Option<SemaphorePermit<'_>> {
        // Needs no fence: it is about those that began to wait before this call began, an order that the callers made.
        let nobody_waits = Arc::strong_count(&self.waits) == 1;
        nobody_waits.then(|| self.own.try_acquire().ok())?
    }

    async fn publish(&self, batch: Vec<Queued>) {
        let mut messages = Vec::with_capacity(batch.iter().map(|call| call.messages.len()).sum());
        let (mut answers, mut waits) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for call in batch {
            answers.push((call.messages.len(), call.done));
            waits.push(call.waits);
            messages.extend(call.messages);
        }
        // A provider that panics must not take the collecting task along. Nothing is then known of the batch, and
        // the callers, whose answers are dropped, say so.
        let publishing = AssertUnwindSafe(self.publisher.publish(messages)).catch_unwind();
        // Once it has begun the provider keeps the order.
        let Ok(results) = hold_until_begun(waits, publishing).await else { return };
        let mut results = results.into_iter();
        for (count, done) in answers {
            // A caller that went away does not want its results.
            let _ = done.send(results.by_ref().take(count).collect());
        }
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

async fn collect(calls: Arc<Calls>, mut queue: mpsc::Receiver<Queued>) {
    let mut under_way = FuturesUnordered::new();
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(call) => call,
            None => tokio::select! {
                biased;
                Some(()) = under_way.next() => continue,
                call = queue.recv() => match call {
                    Some(call) => call,
                    None => break,
                },
            },
        };
        while under_way.len() >= calls.limits.in_flight.max(1) {
            under_way.next().await;
        }
        let (batch, rest) = fill(first, &mut queue, calls.limits);
        left_over = rest;
        under_way.push(calls.publish(batch));
    }
    while under_way.next().await.is_some() {}
}

/// Adds queued calls while they fit; the first that does not comes back.
fn fill(first: Queued, queue: &mut mpsc::Receiver<Queued>, limits: Limits) -> (Vec<Queued>, Option<Queued>) {
    let mut messages = first.messages.len();
    let mut bytes: usize = first.messages.iter().map(Message::size).sum();
    let mut batch = vec![first];
    while messages < limits.max_messages
        && let Ok(call) = queue.try_recv()
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

#[cfg(test)]
mod tests;
