//! Publishing: a batch goes out at once, and each message is taken when its confirm is here.
//!
//! ```text
//! publish ─▶ turn ─▶ first polls: all frames of the batch, in order ─▶ turn over ─▶ confirms as they come
//! ```

use crate::admin::{self, routing_key};
use crate::error;
use crate::link::Link;
use crate::message;
use crate::returns::Returns;
use async_trait::async_trait;
use ductape_core::error::Retry;
use ductape_core::turns::{self, Place, Turns};
use ductape_core::{Destination, Error, ErrorKind, Message, MessageId, Position, Publisher, Result};
use futures_util::FutureExt;
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
    slot: Mutex<Slot>,
    /// Calls that overlap keep their order.
    turns: Turns,
}

/// What is published on.
struct Slot {
    channel: Option<Arc<Channel>>,
    /// Which of the publishers' connections in a row the channel is of.
    published_on: u64,
    /// Whether a call has ended before its confirms were here since the channel was made or has last answered.
    is_doubtful: bool,
}

/// What the messages of one call share.
#[derive(Default)]
struct Call {
    /// How many were polled once.
    started: AtomicUsize,
    returns: Returns,
}

/// A batch whose frames are on the channel, and what is known of its messages so far.
struct Sent<S> {
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
        let call = Call::default();
        let mut results = self.send(prepared.collect(), is_short, &call).await;
        call.returns.correct(&mut results, || self.returned(), || self.perhaps_returned());
        results
    }
}

impl RabbitMqPublisher {
    pub(crate) async fn open(link: Arc<Link>, destination: &Destination) -> Result<Self> {
        let (channel, published_on) = confirming(&link).await?;
        let slot = Mutex::new(Slot::new(channel, published_on));
        Ok(RabbitMqPublisher { link, destination: destination.clone(), slot, turns: Turns::default() })
    }

    /// The results, in which all that were confirmed count as taken.
    async fn send(&self, batch: Vec<Result<Outgoing>>, is_short: bool, call: &Call) -> Vec<Result<Position>> {
        let count = batch.len();
        let mut batch = Some(batch);
        let mut put = |channel: &Arc<Channel>| self.put(channel, batch.take().unwrap_or_default(), call);
        let at_once = || {
            let is_free = is_short && !self.link.alarm.is_raised();
            self.sure().filter(|_| is_free).map(|channel| put(&channel))
        };
        let sent = match self.turns.at_once(at_once) {
            Ok(sent) => Ok(sent),
            // Apart: it is seldom, and what it may have to make anew would make every publish's future a large one.
            Err(place) => Box::pin(self.put_in_turn(place, put)).await,
        };
        let Sent { mut confirms, mut results } = match sent {
            Ok(sent) => sent,
            Err(error) => return all(count, error),
        };
        let abandoned = Abandoned(Some(self));
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

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel, where it is not lost and need not be asked whether it is.
    fn sure(&self) -> Option<Arc<Channel>> {
        let slot = self.slot();
        if slot.is_doubtful { None } else { slot.there() }
    }

    /// Puts frames when it is their turn, on a channel that is made anew where it is lost.
    async fn put_in_turn<S>(&self, place: Place<'_>, put: impl FnOnce(&Arc<Channel>) -> S) -> Result<S> {
        let turn = self.link.alarm.turn(place, self.link.limit).await;
        let _turn = turn.ok_or_else(|| self.link.no_turn())?;
        let channel = match self.usable().await {
            Some(channel) => channel,
            None => self.reopen().await?,
        };
        Ok(put(&channel))
    }

    /// The channel, where it is not lost. Where it is in doubt the server is asked on it whether it still answers.
    ///
    /// It is kept where it does: what others have on it is then not overtaken by what follows on another, and not followed
    /// by the channel's close either (see [`crate::farewells`]).
    async fn usable(&self) -> Option<Arc<Channel>> {
        let (channel, published_on, is_doubtful) = {
            let slot = self.slot();
            (slot.there()?, slot.published_on, slot.is_doubtful)
        };
        if !is_doubtful {
            return Some(channel);
        }
        // It has them already. The question passes by all publishes that are still to be written.
        let question = channel.confirm_select(ConfirmSelectOptions::default());
        // Half the time, so that there is as much to connect anew.
        let answer = tokio::time::timeout(self.link.limit / 2, question).await;
        if matches!(answer, Ok(Ok(()))) {
            self.slot().is_doubtful = false;
            forget_abandoned(&channel);
            return Some(channel);
        }
        self.slot().channel = None;
        self.link.farewells.see_off(channel, self.link.limit);
        if answer.is_err() {
            self.link.let_go(published_on).await;
        }
        None
    }

    /// Puts the frames of a batch on the channel: the first poll of each message does.
    fn put<'a>(
        &'a self,
        channel: &Arc<Channel>,
        batch: Vec<Result<Outgoing>>,
        call: &'a Call,
    ) -> Sent<impl Stream<Item = Result<Position>> + Unpin + use<'a>> {
        let count = batch.len();
        let each = |outgoing| self.publish_one(Arc::clone(channel), outgoing, call);
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
        while call.started.load(Ordering::Relaxed) < count {
            if let Poll::Ready(Some(result)) = confirms.poll_next_unpin(&mut cx) {
                results.push(result);
            }
        }
        Sent { confirms, results }
    }

    async fn publish_one(
        &self,
        channel: Arc<Channel>,
        outgoing: Result<Outgoing>,
        call: &Call,
    ) -> Result<Position> {
        call.started.fetch_add(1, Ordering::Relaxed);
        let Outgoing { message, properties } = outgoing?;
        let (exchange, key) = (self.link.exchange.as_str(), &**routing_key(&self.destination));
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let publish =
            channel.basic_publish(exchange.into(), key.into(), options, &message.payload, properties);
        let confirm = publish.await.map_err(|error| self.located(error::not_put(&error)))?;
        match confirm.await {
            Ok(confirmation) => self.confirmed(confirmation, message.id, &call.returns),
            Err(error) => Err(self.unanswered(&error, message.payload.len())),
        }
    }

    /// A message of this size went out, and instead of a confirm the channel ended.
    fn unanswered(&self, error: &lapin::Error, size: usize) -> Error {
        let Some(limit) = error::refused_size(error) else {
            return self.located(error::unanswered(error));
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
        let (channel, published_on) = confirming(&self.link).await?;
        *self.slot() = Slot::new(Arc::clone(&channel), published_on);
        Ok(channel)
    }

    /// Taken, until it is known which messages the server returned: lapin has that come with the confirm of any.
    fn confirmed(&self, confirmation: Confirmation, id: MessageId, returns: &Returns) -> Result<Position> {
        let is_taken = confirmation.is_ack();
        if let Some(returned) = confirmation.take_message() {
            returns.note(returned.properties.message_id().clone());
        }
        if is_taken {
            return Ok(Position::Id(id));
        }
        Err(self.located(
            // Of several groups' queues one refused it, and the others may have it.
            Error::new(ErrorKind::DestinationFull, "a queue refused the message")
                .with_retry(Retry::Uncertain)
                .with_help("see the queue's bounds and the server's log"),
        ))
    }

    fn returned(&self) -> Error {
        self.unrouted("no queue takes the message; the server returned it")
    }

    fn perhaps_returned(&self) -> Error {
        let text = "the server returned messages that were published at the same time; whether this one was taken is not known";
        self.unrouted(text).with_retry(Retry::Uncertain)
    }

    fn unrouted(&self, text: &str) -> Error {
        let error = Error::new(ErrorKind::DestinationNotFound, text)
            .with_context("routingKey", routing_key(&self.destination))
            .with_help("make the group's queue again: open the connection anew, or `ductape apply`");
        self.located(error)
    }

    fn located(&self, error: Error) -> Error {
        error.with_context("destination", &self.destination.name)
    }
}

impl Drop for RabbitMqPublisher {
    fn drop(&mut self) {
        let channel = self.slot().there();
        // What callers who went away have left on it may still have to be written.
        channel.into_iter().for_each(|channel| self.link.farewells.see_off(channel, self.link.limit));
    }
}

impl Slot {
    fn new(channel: Arc<Channel>, published_on: u64) -> Self {
        Slot { channel: Some(channel), published_on, is_doubtful: false }
    }

    /// The channel, where it is not lost.
    fn there(&self) -> Option<Arc<Channel>> {
        self.channel.clone().filter(|channel| channel.status().connected())
    }
}

/// A batch whose caller may go away before its confirms are here, or has waited long enough for them. The next call asks
/// whether the server still answers.
struct Abandoned<'a>(Option<&'a RabbitMqPublisher>);

impl Abandoned<'_> {
    fn no_more(mut self) {
        self.0 = None;
    }
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(publisher) = self.0 {
            publisher.slot().is_doubtful = true;
        }
    }
}

/// Lets lapin forget the confirms that nobody waits for any more, which it keeps with the channel. Those that are not
/// here yet it keeps until this is called again.
fn forget_abandoned(channel: &Channel) {
    // At first it waits for the last message, which may be another's; it does not a second time.
    for _ in 0..2 {
        let _ = channel.wait_for_confirms().now_or_never();
    }
}

/// A channel with confirms, and which of the publishers' connections in a row it is of.
async fn confirming(link: &Link) -> Result<(Arc<Channel>, u64)> {
    let (channel, published_on) = link.publishing().await?;
    link.within("confirms", false, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok((Arc::new(channel), published_on))
}

/// One result a message, of an error that is every message's.
fn all(count: usize, error: Error) -> Vec<Result<Position>> {
    let (kind, retry, text) = (error.kind(), error.retry(), error.to_string());
    let others = (1..count).map(|_| Err(Error::new(kind, text.clone()).with_retry(retry)));
    let others: Vec<_> = others.collect();
    std::iter::once(Err(error)).take(count).chain(others).collect()
}
