//! `mode: pubsub`: whoever listens now gets a message, once or not at all.
//!
//! ```text
//!  publish ─▶ PUBLISH ─▶ channel ─▶ everyone who is subscribed: hand, bounded ─▶ receive
//! ```
//!
//! Nothing is kept, and a group is only a name: each of its members gets everything. A subscriber that is too slow
//! loses what comes, and says so. A retry is handed out again from the memory of this process.

use crate::entry::{self, StreamId};
use crate::envelope;
use crate::error;
use crate::hand::{Hand, LONGEST};
use crate::link::Link;
use crate::publisher::{Line, all};
use async_trait::async_trait;
use ductape_core::broker::{GroupInspection, Inspection};
use ductape_core::capability::{
    Attempts, Batching, Capabilities, Delay, Durability, Groups, HeaderNames, HeaderValues, Ordering, Replay,
};
use ductape_core::error::Retry;
use ductape_core::{
    Broker, Consumer, ConsumerOptions, Delivery, Destination, Error, ErrorKind, Message, Position,
    ProviderKind, Publisher, Result, Settlement,
};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, PushInfo, PushKind, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// The largest message: with its metadata, and in base64, it stays below what the server buffers for a subscriber
/// (`client-output-buffer-limit pubsub`, 32 MiB).
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// How many messages and bytes wait for a slow subscriber.
const WAITING: usize = 8192;
const WAITING_BYTES: usize = 64 * 1024 * 1024;

pub(crate) struct PubSubBroker {
    link: Arc<Link>,
}

struct PubSubPublisher {
    line: Line,
    channel: Arc<str>,
}

struct PubSubConsumer {
    link: Arc<Link>,
    inbox: Arc<Inbox>,
    /// Kept for as long as the subscription lives.
    connection: MultiplexedConnection,
    /// How long the server may take to say that it is there.
    patience: Duration,
    closed: watch::Sender<bool>,
}

/// What has come and was not handed out.
struct Inbox {
    channel: Arc<str>,
    clock: ductape_core::Clock,
    state: Mutex<State>,
    arrived: Notify,
}

struct State {
    hand: Hand,
    received: u64,
    /// Of what was never handed out.
    bytes: usize,
    lost: u64,
    is_connected: bool,
}

impl PubSubBroker {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        PubSubBroker { link }
    }
}

#[async_trait]
impl Broker for PubSubBroker {
    fn capabilities(&self, _: &Destination) -> Capabilities {
        Capabilities {
            ordering: Ordering::None,
            groups: Groups::Many,
            replay: Replay::None,
            delay: Delay::None,
            attempts: Attempts::Forgotten,
            durability: Durability::FireAndForget,
            batching: Batching::Provider,
            header_values: HeaderValues::Bytes,
            header_names: HeaderNames::Repeatable,
            max_headers: None,
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }

    async fn ensure(&self, _: &Destination) -> Result<()> {
        // A channel is there for as long as somebody listens.
        self.link.check_open("the connection")
    }

    async fn inspect(&self, destination: &Destination) -> Result<Inspection> {
        let mut ask = redis::cmd("PUBSUB");
        ask.arg("NUMSUB").arg(&*destination.name);
        let answer = self.link.call(&ask, "the look at the channel").await?;
        let members = entry::field(&answer, &destination.name).and_then(entry::number);
        let group = GroupInspection {
            name: destination.default_group.to_string(),
            members,
            ..GroupInspection::default()
        };
        Ok(Inspection { groups: vec![group], ..Inspection::default() })
    }

    async fn publisher(&self, destination: &Destination) -> Result<Arc<dyn Publisher>> {
        self.link.check_open("the connection")?;
        let line = Line::new(Arc::clone(&self.link), 0);
        Ok(Arc::new(PubSubPublisher { line, channel: Arc::clone(&destination.name) }))
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        self.link.check_open("the connection")?;
        Ok(Arc::new(PubSubConsumer::open(Arc::clone(&self.link), destination, options).await?))
    }

    async fn delete_group(&self, _: &Destination, _: &str) -> Result<()> {
        Err(Error::unsupported(ProviderKind::Redis, "deleting a group in `mode: pubsub`, which keeps none"))
    }

    async fn ping(&self) -> Result<()> {
        crate::admin::ping(&self.link).await
    }

    async fn close(&self) -> Result<()> {
        self.link.close();
        Ok(())
    }
}

#[async_trait]
impl Publisher for PubSubPublisher {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        let mut commands = Pipeline::with_capacity(batch.len());
        for message in &batch {
            commands.cmd("PUBLISH").arg(&*self.channel).arg(envelope::write(message));
        }
        if batch.is_empty() {
            return Vec::new();
        }
        match self.line.send(&commands).await {
            Ok(answers) => {
                let taken =
                    |(answer, message): (Result<Value>, Message)| answer.map(|_| Position::Id(message.id));
                answers.into_iter().zip(batch).map(taken).collect()
            }
            Err(error) => all(batch.len(), error.with_context("destination", &self.channel)),
        }
    }
}

impl PubSubConsumer {
    async fn open(link: Arc<Link>, destination: &Destination, options: &ConsumerOptions) -> Result<Self> {
        let inbox = Arc::new(Inbox {
            channel: Arc::clone(&destination.name),
            clock: link.clock.clone(),
            state: Mutex::new(State {
                hand: Hand::new(options.max_in_flight),
                received: 0,
                bytes: 0,
                lost: 0,
                is_connected: true,
            }),
            arrived: Notify::new(),
        });
        let pushed = Arc::clone(&inbox);
        let mut connection = link
            .listen(move |info| {
                pushed.take_in(info);
                Ok(())
            })
            .await?;
        connection.subscribe(&*destination.name).await.map_err(|error| {
            link.refused(&error, "the subscription").with_context("destination", &destination.name)
        })?;
        // Whoever asks every third of a lease does not wait longer for the answer.
        let patience = link.limit.min(options.lease / 4);
        Ok(PubSubConsumer { link, inbox, connection, patience, closed: watch::Sender::new(false) })
    }

    fn check_open(&self) -> Result<()> {
        if *self.closed.borrow() {
            Err(Error::closed("the consumer"))
        } else {
            self.link.check_open("the consumer")
        }
    }
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server pushes.
    fn take_in(&self, info: PushInfo) {
        match info.kind {
            PushKind::Message => {
                if let Some(Value::BulkString(value)) = info.data.into_iter().nth(1) {
                    self.message(value);
                }
            }
            PushKind::Disconnection => return self.disconnected(),
            _ => return,
        }
        self.arrived.notify_one();
    }

    fn disconnected(&self) {
        self.state().is_connected = false;
        self.arrived.notify_one();
    }

    fn lost(&self) -> Error {
        Error::new(ErrorKind::ConnectionLost, "the subscription's connection is gone")
            .with_retry(Retry::Safe)
            .with_context("destination", &self.channel)
    }

    fn message(&self, value: Vec<u8>) {
        let mut state = self.state();
        let waiting = state.hand.waiting();
        if waiting >= WAITING || (waiting > 0 && state.bytes + value.len() > WAITING_BYTES) {
            state.lost += 1;
            // Told ever more rarely: a slow subscriber must not be slowed by its log.
            if state.lost.is_power_of_two() {
                let (channel, lost) = (&*self.channel, state.lost);
                tracing::warn!(channel, lost, "messages are lost: the subscriber is slower than what comes");
            }
            return;
        }
        state.received += 1;
        let id = StreamId { millis: 0, number: state.received };
        let message = envelope::read(value, &self.channel, state.received, self.clock.now());
        state.bytes += message.size();
        let position = Position::Id(message.id.clone());
        let delivery = Delivery { message, attempt: 1, position, token: id.token() };
        state.hand.fetched([delivery], Instant::now() + LONGEST);
    }

    fn hand_out(&self, max: usize) -> Result<Vec<Delivery>> {
        let mut state = self.state();
        let before = state.hand.waiting();
        let taken = state.hand.take(max, Instant::now(), None);
        // What comes again comes first, and has left these bytes before.
        let again = taken.len().saturating_sub(before - state.hand.waiting());
        let new: usize = taken[again..].iter().map(|delivery| delivery.message.size()).sum();
        state.bytes = state.bytes.saturating_sub(new);
        if taken.is_empty() && !state.is_connected {
            return Err(self.lost());
        }
        Ok(taken)
    }
}

#[async_trait]
impl Consumer for PubSubConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let deadline = tokio::time::Instant::now() + wait.min(LONGEST);
        let (mut closed, mut closing) = (self.closed.subscribe(), self.link.closing());
        loop {
            self.check_open()?;
            let taken = self.inbox.hand_out(max)?;
            if !taken.is_empty() || max == 0 {
                return Ok(taken);
            }
            tokio::select! {
                _ = closed.wait_for(|closed| *closed) => {}
                _ = closing.wait_for(|closed| *closed) => {}
                () = self.inbox.arrived.notified() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Vec::new()),
            }
        }
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>> {
        if let Err(error) = self.check_open() {
            return batch.iter().map(|_| Err(error.replicate())).collect();
        }
        let batch: Vec<_> = batch.iter().map(|it| (StreamId::of_token(&it.token), it.verdict)).collect();
        let (_, known) = self.inbox.state().hand.settle(&batch, Instant::now());
        self.inbox.arrived.notify_one();
        let lost = || Err(Error::new(ErrorKind::LeaseLost, "the delivery is not this consumer's"));
        known.into_iter().map(|known| if known { Ok(()) } else { lost() }).collect()
    }

    /// There are no leases; but who only listens would never hear that a connection is gone without a word.
    async fn extend(&self) -> Result<()> {
        self.check_open()?;
        let (mut connection, ping) = (self.connection.clone(), redis::cmd("PING"));
        match tokio::time::timeout(self.patience, connection.req_packed_command(&ping)).await {
            // A refusal is an answer too.
            Ok(answer) if !answer.as_ref().is_err_and(|it| error::is_lost(it) || it.is_timeout()) => Ok(()),
            _ => {
                self.inbox.disconnected();
                Err(self.inbox.lost())
            }
        }
    }

    async fn close(&self) -> Result<()> {
        self.closed.send_replace(true);
        let mut state = self.inbox.state();
        state.hand.clear();
        state.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ductape_core::{Clock, Verdict};

    fn inbox(most: usize) -> Inbox {
        let hand = Hand::new(most);
        let state = State { hand, received: 0, bytes: 0, lost: 0, is_connected: true };
        Inbox {
            channel: "c".into(),
            clock: Clock::system(),
            state: Mutex::new(state),
            arrived: Notify::new(),
        }
    }

    fn flood(inbox: &Inbox) {
        (0..WAITING + 10).for_each(|_| inbox.message(b"x".to_vec()));
        let state = inbox.state();
        assert_eq!((state.hand.waiting(), state.bytes), (WAITING, WAITING * size(&state)));
    }

    /// Of a message, as all of them are.
    fn size(state: &State) -> usize {
        state.bytes / state.hand.waiting()
    }

    fn release(inbox: &Inbox, taken: &[Delivery]) {
        let release = |it: &Delivery| (StreamId::of_token(&it.token), Verdict::Release);
        let batch: Vec<_> = taken.iter().map(release).collect();
        inbox.state().hand.settle(&batch, Instant::now());
    }

    #[test]
    fn what_is_released_and_taken_again_makes_room_once() {
        let inbox = inbox(10);
        flood(&inbox);
        let bytes = inbox.state().bytes;
        for _ in 0..100 {
            let taken = inbox.hand_out(10).unwrap();
            assert_eq!(taken.len(), 10);
            release(&inbox, &taken);
        }
        let state = inbox.state();
        assert_eq!(state.hand.waiting(), WAITING - 10);
        assert_eq!(state.bytes, bytes / WAITING * (WAITING - 10));
        drop(state);
        flood(&inbox);
    }
}
