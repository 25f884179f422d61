//! Publishing: a batch goes out at once, and each message is taken when its confirm is here.
//!
//! ```text
//! publish ─▶ turn ─▶ first polls: all frames of the batch, in order ─▶ turn over ─▶ confirms as they come
//! ```

use crate::admin::{self, routing_key};
use crate::error;
use crate::link::Link;
use crate::message;
use async_trait::async_trait;
use ductape_core::error::Retry;
use ductape_core::turns::{self, Place, Turns};
use ductape_core::{Destination, Error, ErrorKind, Message, MessageId, Position, Publisher, Result};
use futures_util::future::Either;
use futures_util::stream::{self, FuturesOrdered, Stream, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Publishes to one destination.
pub(crate) struct RabbitMqPublisher {
    link: Arc<Link>,
    destination: Destination,
    channel: Mutex<Option<Arc<Channel>>>,
    /// Calls that overlap keep their order.
    turns: Turns,
}

/// A batch whose frames are on the channel, and what is known of its messages so far.
struct Sent<S> {
    channel: Arc<Channel>,
    /// In the order of the messages.
    confirms: S,
    results: Vec<Result<Position>>,
}

/// A message that is fit to go out.
struct Outgoing {
    message: Message,
    properties: BasicProperties,
}

#[async_trait]
impl Publisher for RabbitMqPublisher {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        let count = batch.len();
        if let Err(error) = self.link.check_open("the publisher") {
            return all(count, error);
        }
        let is_short = turns::is_short(&batch);
        let prepared = batch.into_iter().map(|message| {
            let (size, largest) = (message.payload.len(), self.link.largest());
            if size > largest {
                return Err(self.located(error::too_large(size, largest)));
            }
            let properties = message::properties(&message)?;
            Ok(Outgoing { message, properties })
        });
        self.send(prepared.collect(), is_short).await
    }
}

impl RabbitMqPublisher {
    pub(crate) async fn open(link: Arc<Link>, destination: &Destination) -> Result<Self> {
        let channel = confirming(&link).await?;
        let channel = Mutex::new(Some(channel));
        Ok(RabbitMqPublisher { link, destination: destination.clone(), channel, turns: Turns::default() })
    }

    async fn send(&self, batch: Vec<Result<Outgoing>>, is_short: bool) -> Vec<Result<Position>> {
        let count = batch.len();
        let started = AtomicUsize::new(0);
        let mut batch = Some(batch);
        let mut put = |channel: &Arc<Channel>| self.put(channel, batch.take().unwrap_or_default(), &started);
        let at_once = || {
            let is_free = is_short && !self.link.alarm.is_raised();
            self.there().filter(|_| is_free).map(|channel| put(&channel))
        };
        let sent = match self.turns.at_once(at_once) {
            Ok(sent) => Ok(sent),
            // Apart: it is seldom, and what it may have to make anew would make every publish's future a large one.
            Err(place) => Box::pin(self.put_in_turn(place, put)).await,
        };
        let Sent { channel, mut confirms, mut results } = match sent {
            Ok(sent) => sent,
            Err(error) => return all(count, error),
        };
        let abandoned = Abandoned { publisher: self, channel: Some(channel) };
        let deadline = tokio::time::Instant::now() + self.link.limit;
        loop {
            match tokio::time::timeout_at(deadline, confirms.next()).await {
                Ok(Some(result)) => results.push(result),
                Ok(None) => break,
                Err(_) => {
                    results.resize_with(count, || Err(self.unconfirmed()));
                    return results;
                }
            }
        }
        abandoned.no_more();
        results
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Channel>>> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel, where it is not lost.
    fn there(&self) -> Option<Arc<Channel>> {
        self.slot().clone().filter(|channel| channel.status().connected())
    }

    /// Puts frames when it is their turn, on a channel that is made anew where it is lost.
    async fn put_in_turn<S>(&self, place: Place<'_>, put: impl FnOnce(&Arc<Channel>) -> S) -> Result<S> {
        let turn = self.link.alarm.turn(place, self.link.limit).await;
        let _turn = turn.ok_or_else(|| self.link.no_turn())?;
        let channel = match self.there() {
            Some(channel) => channel,
            None => {
                let channel = self.reopen().await?;
                *self.slot() = Some(Arc::clone(&channel));
                channel
            }
        };
        Ok(put(&channel))
    }

    /// Puts the frames of a batch on the channel: the first poll of each message does.
    fn put<'a>(
        &'a self,
        channel: &Arc<Channel>,
        batch: Vec<Result<Outgoing>>,
        started: &'a AtomicUsize,
    ) -> Sent<impl Stream<Item = Result<Position>> + Unpin + use<'a>> {
        let count = batch.len();
        let each = |outgoing| self.publish_one(Arc::clone(channel), outgoing, started);
        let mut batch = batch.into_iter();
        // What many tasks publish one by one does without the machinery for many.
        let mut confirms = match (count, batch.next()) {
            (1, Some(only)) => Either::Left(stream::once(Box::pin(each(only)))),
            (_, first) => {
                Either::Right(first.into_iter().chain(batch).map(each).collect::<FuturesOrdered<_>>())
            }
        };
        let mut results = Vec::with_capacity(count);
        // Whoever waits for the confirms polls again, and is woken then. Also one that is refused here and now, and is
        // ready before the others are looked at, does not end this.
        let mut cx = Context::from_waker(Waker::noop());
        while started.load(Ordering::Relaxed) < count {
            if let Poll::Ready(Some(result)) = confirms.poll_next_unpin(&mut cx) {
                results.push(result);
            }
        }
        Sent { channel: Arc::clone(channel), confirms, results }
    }

    async fn publish_one(
        &self,
        channel: Arc<Channel>,
        outgoing: Result<Outgoing>,
        started: &AtomicUsize,
    ) -> Result<Position> {
        started.fetch_add(1, Ordering::Relaxed);
        let Outgoing { message, properties } = outgoing?;
        let (exchange, key) = (self.link.exchange.as_str(), &**routing_key(&self.destination));
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let publish =
            channel.basic_publish(exchange.into(), key.into(), options, &message.payload, properties);
        // Lapin says so before anything is written only where the channel is known to be gone.
        let confirm = publish.await.map_err(|error| {
            let sent = !matches!(error.kind(), lapin::ErrorKind::InvalidChannelState(..));
            self.located(error::call(&error, "the publish", sent))
        })?;
        match confirm.await {
            Ok(confirmation) => self.confirmed(confirmation, message.id),
            Err(error) => Err(self.unanswered(&error, message.payload.len())),
        }
    }

    /// A message of this size went out, and instead of a confirm the channel ended.
    fn unanswered(&self, error: &lapin::Error, size: usize) -> Error {
        let Some(limit) = error::refused_size(error) else {
            return self.located(error::call(error, "the publish", true));
        };
        self.link.takes_at_most(limit);
        if size > limit {
            return self.located(error::too_large(size, limit));
        }
        let text = "the channel ended at another message, which was too large; whether this one was taken is not known";
        self.located(Error::new(ErrorKind::ConnectionLost, text).with_retry(Retry::Uncertain))
    }

    /// A confirm did not come in the time that a call has: the server may have the message or not.
    fn unconfirmed(&self) -> Error {
        if let Some(error) = self.link.blocks() {
            return self.located(error);
        }
        let text = format!("the publish: no confirm within {:?}", self.link.limit);
        self.located(Error::new(ErrorKind::Timeout, text).with_retry(Retry::Uncertain).with_help(
            "see that the server is up, has memory and disk left, and that the queue has a leader \
                     (`rabbitmq-queues quorum_status QUEUE`)",
        ))
    }

    /// The channel after a loss. A server that was killed may have forgotten what was declared moments before, so
    /// that is declared again.
    async fn reopen(&self) -> Result<Arc<Channel>> {
        admin::ensure(&self.link, &self.destination).await?;
        confirming(&self.link).await
    }

    fn confirmed(&self, confirmation: Confirmation, id: MessageId) -> Result<Position> {
        match confirmation {
            Confirmation::Ack(None) => Ok(Position::Id(id)),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => {
                let key = routing_key(&self.destination);
                Err(self.located(
                    Error::new(
                        ErrorKind::DestinationNotFound,
                        "no queue takes the message; the server returned it",
                    )
                    .with_context("routingKey", key)
                    .with_help("make the group's queue again: open the connection anew, or `ductape apply`"),
                ))
            }
            Confirmation::Nack(None) | Confirmation::NotRequested => Err(self.located(
                // Of several groups' queues one refused it, and the others may have it.
                Error::new(ErrorKind::DestinationFull, "a queue refused the message")
                    .with_retry(Retry::Uncertain)
                    .with_help("see the queue's bounds and the server's log"),
            )),
        }
    }

    fn located(&self, error: Error) -> Error {
        error.with_context("destination", &self.destination.name)
    }
}

/// A batch whose caller may go away before its confirms are here. Lapin keeps what it is not asked for any more
/// with the channel, so that channel is let go.
struct Abandoned<'a> {
    publisher: &'a RabbitMqPublisher,
    channel: Option<Arc<Channel>>,
}

impl Abandoned<'_> {
    fn no_more(mut self) {
        self.channel = None;
    }
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        let Some(abandoned) = self.channel.take() else { return };
        self.publisher.slot().take_if(|channel| channel.id() == abandoned.id());
    }
}

async fn confirming(link: &Link) -> Result<Arc<Channel>> {
    let channel = link.publishing().await?;
    link.within("confirms", false, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(Arc::new(channel))
}

/// One result a message, of an error that is every message's.
fn all(count: usize, error: Error) -> Vec<Result<Position>> {
    let (kind, retry, text) = (error.kind(), error.retry(), error.to_string());
    let others = (1..count).map(|_| Err(Error::new(kind, text.clone()).with_retry(retry)));
    let others: Vec<_> = others.collect();
    std::iter::once(Err(error)).take(count).chain(others).collect()
}
