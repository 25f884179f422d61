//! Publishing: a batch is handed to the client library at once, and ends with its last delivery report.
//!
//! ```text
//! publish ─▶ turn ─▶ records into the client's queue, waiting where it is full ─▶ turn over ─▶ reports ─▶ results
//! ```

use crate::batch::{MAX_BATCH, Sending};
use crate::error;
use crate::link::Link;
use crate::message;
use crate::producer::{Producer, record};
use async_trait::async_trait;
use ductape_core::turns::{self, Turns};
use ductape_core::{Destination, Error, ErrorKind, Message, Position, Publisher, Result};
use rdkafka::error::RDKafkaErrorCode as Code;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Publishes to one topic.
pub(crate) struct KafkaPublisher {
    link: Arc<Link>,
    destination: Destination,
    /// Who fills the client's queue: calls that overlap keep their order, also while it is full.
    turns: Turns,
}

/// What is left at most of the limit of a call when a publish gives up waiting for room.
const MARGIN: Duration = Duration::from_secs(1);

/// A batch on its way into the client's queue.
struct Filling<'p> {
    publisher: &'p KafkaPublisher,
    producer: &'p Producer,
    sending: Sending<'p>,
    /// Messages that are in the queue, or were refused.
    done: usize,
}

#[async_trait]
impl Publisher for KafkaPublisher {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        if batch.is_empty() {
            return Vec::new();
        }
        match self.producer(batch.len()) {
            Ok(producer) => self.send(&producer, &batch).await,
            Err(error) => all(batch.len(), error),
        }
    }
}

impl KafkaPublisher {
    pub(crate) fn new(link: Arc<Link>, destination: &Destination) -> Self {
        KafkaPublisher { link, destination: destination.clone(), turns: Turns::default() }
    }

    fn producer(&self, count: usize) -> Result<Arc<Producer>> {
        self.link.check_open("the publisher")?;
        if count > MAX_BATCH {
            let message = format!("a batch of {count} messages; {MAX_BATCH} is the most");
            return Err(Error::new(ErrorKind::MessageTooLarge, message).with_help("publish smaller batches"));
        }
        self.link.unbroken_producer()
    }

    async fn send(&self, producer: &Producer, batch: &[Message]) -> Vec<Result<Position>> {
        let sending = producer.reports().batches.open(batch.len());
        let mut filling = Filling { publisher: self, producer, sending, done: 0 };
        let at_once = || (turns::is_short(batch) && filling.fill(batch)).then_some(());
        if let Err(place) = self.turns.at_once(at_once) {
            // Before the turn, since core's clock runs as well while the others have theirs.
            let deadline = Instant::now() + self.patience();
            let _turn = place.turn().await;
            while !filling.fill(batch) {
                if !producer.room(deadline).await {
                    filling.refuse(self.not_sent(Code::QueueFull));
                }
            }
        }
        let last = || producer.reports().signals.last().clone();
        filling.sending.results(|error| self.located(with_reason(error, last))).await
    }

    /// How long a publish waits for room. Core gives the whole call up at the limit, and could not tell then that
    /// nothing was sent.
    fn patience(&self) -> Duration {
        self.link.limit - (self.link.limit / 10).min(MARGIN)
    }

    /// Nothing of the message has left the client.
    fn not_sent(&self, code: Code) -> Error {
        let error = error::coded(code, "the message is not sent", false);
        match code {
            Code::QueueFull => error.with_context("waited", format_args!("{:?}", self.patience())),
            _ => error,
        }
    }

    fn located(&self, error: Error) -> Error {
        error.with_context("destination", &self.destination.name)
    }
}

impl Filling<'_> {
    /// Hands on what is left of the batch. False where the queue is full before its end.
    fn fill(&mut self, batch: &[Message]) -> bool {
        for message in &batch[self.done..] {
            let headers = message::headers(message);
            let tag = self.sending.tag(self.done);
            match self.producer.send(record(&self.publisher.destination.name, message, headers, tag)) {
                Ok(()) => {
                    self.sending.sent();
                    self.done += 1;
                }
                Err(Code::QueueFull) => match self.too_large(message) {
                    Some(error) => self.refuse(error),
                    None => return false,
                },
                Err(code) => self.refuse(self.publisher.not_sent(code)),
            }
        }
        true
    }

    /// Why a message that has no room now will have none later.
    fn too_large(&self, message: &Message) -> Option<Error> {
        let (size, limit) = (message.payload.len(), self.publisher.link.settings.queue_bytes);
        (size > limit).then(|| error::longer_than_queue(size, limit))
    }

    /// The next message stays here.
    fn refuse(&mut self, error: Error) {
        self.sending.refused(self.done, error);
        self.done += 1;
    }
}

/// A time-out says little; what the client said last of its connections says why.
fn with_reason(error: Error, last: impl Fn() -> Option<crate::signals::Signal>) -> Error {
    match (error.kind(), last()) {
        (ErrorKind::Timeout, Some(signal)) => error.with_context("last heard", signal.reason),
        _ => error,
    }
}

/// One result a message, of an error that is every message's.
fn all(count: usize, error: Error) -> Vec<Result<Position>> {
    let others: Vec<_> = (1..count).map(|_| Err(error.replicate())).collect();
    std::iter::once(Err(error)).chain(others).collect()
}
