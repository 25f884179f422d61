//! Publishing: a batch is handed to the client library at once, and ends with its last delivery report.
//!
//! ```text
//! publish ─▶ turn ─▶ records into the client's queue, waiting where it is full ─▶ turn over ─▶ reports ─▶ results
//! ```

use crate::batch::{MAX_BATCH, Sending};
use crate::error;
use crate::link::Link;
use crate::message;
use crate::producer::{Outgoing, Producer, record};
use async_trait::async_trait;
use ductape_core::turns::{self, Turns};
use ductape_core::{Destination, Error, ErrorKind, Message, Position, Publisher, Result};
use rdkafka::error::RDKafkaErrorCode as Code;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::Instant;

/// Messages of a batch, by their places in it, that are records and not yet in the client's queue.
type Piece<'m> = VecDeque<(usize, Outgoing<'m>)>;

/// The most messages that are records ahead.
const PIECE: usize = 64;

/// Publishes to one topic.
pub(crate) struct KafkaPublisher {
    link: Arc<Link>,
    destination: Destination,
    /// Calls that overlap keep their order, also while the client's queue is full.
    turns: Turns,
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
        let mut sending = producer.reports().batches.open(batch.len());
        let mut rest = batch.iter().enumerate();
        let mut waiting = self.piece(&mut rest, &sending);
        let is_all = rest.len() == 0 && turns::is_short(batch);
        let fill = || self.fill(producer, &mut waiting, &mut sending);
        if let Err(place) = self.turns.at_once(|| is_all.then(fill).flatten()) {
            let _turn = place.turn().await;
            let deadline = Instant::now() + self.link.limit;
            while !waiting.is_empty() {
                self.fill_all(producer, &mut waiting, &mut sending, deadline).await;
                waiting = self.piece(&mut rest, &sending);
            }
        }
        let last = || producer.reports().signals.last().clone();
        sending.results(|error| self.located(with_reason(error, last))).await
    }

    /// The records of the next messages, made before they are waited for: not of all, since each holds its headers.
    fn piece<'m>(
        &'m self,
        rest: &mut impl Iterator<Item = (usize, &'m Message)>,
        sending: &Sending<'_>,
    ) -> Piece<'m> {
        let made = |(index, message)| {
            let headers = message::headers(message);
            (index, record(&self.destination.name, message, headers, sending.tag(index)))
        };
        rest.take(PIECE).map(made).collect()
    }

    /// Hands records to the client library. Nothing where its queue is full before the last.
    fn fill(&self, producer: &Producer, waiting: &mut Piece<'_>, sending: &mut Sending<'_>) -> Option<()> {
        while let Some((index, record)) = waiting.pop_front() {
            match producer.send(record) {
                Ok(()) => sending.sent(),
                Err((Code::QueueFull, back)) => {
                    waiting.push_front((index, back));
                    return None;
                }
                Err((code, _)) => sending.refused(index, self.not_sent(code)),
            }
        }
        Some(())
    }

    /// The same, waiting for room; what has none in time is refused.
    async fn fill_all(
        &self,
        producer: &Producer,
        waiting: &mut Piece<'_>,
        sending: &mut Sending<'_>,
        deadline: Instant,
    ) {
        while self.fill(producer, waiting, sending).is_none() {
            if !producer.room(deadline).await {
                for (index, _) in waiting.drain(..) {
                    sending.refused(index, self.not_sent(Code::QueueFull));
                }
            }
        }
    }

    /// Nothing of the message has left the client.
    fn not_sent(&self, code: Code) -> Error {
        let error = error::coded(code, "the message is not sent", false);
        match code {
            Code::QueueFull => error.with_context("waited", format_args!("{:?}", self.link.limit)),
            _ => error,
        }
    }

    fn located(&self, error: Error) -> Error {
        error.with_context("destination", &self.destination.name)
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
