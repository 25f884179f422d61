//! Consuming: a connection of its own with one channel, whose prefetch is the bound on what is in flight.
//!
//! The server numbers what it delivers on the channel. What is not settled is in `open`; of an ordered
//! destination its deliveries are kept too, since there a retry never goes back to the server, which would put
//! it behind later ones of its key.

mod verdicts;

use crate::admin::queue;
use crate::error;
use crate::link::{Dedicated, Link};
use crate::message;
use crate::outstanding::Outstanding;
use async_trait::async_trait;
use ductape_core::error::Retry;
use ductape_core::message::Attributes;
use ductape_core::{
    Consumer, ConsumerOptions, Delivery, Destination, Error, ErrorKind, Position, Result, Settlement,
    Timestamp, Token, Verdict,
};
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OnceCell, watch};

/// Tells deliveries of one consumer from those of another.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// The longest that a receive waits, whatever is asked: a time beyond it need not exist.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400 * 365);

/// For how long the server leaves a delivery unsettled, in milliseconds: in practice for ever, since a worker holds what it
/// retries later, and heartbeats find a process that is gone. RabbitMQ 4.3 and later heed it, and those before pass it
/// over. As an argument of the queue it would make every queue that is there a mismatch.
const CONSUMER_TIMEOUT: i64 = i32::MAX as i64;

/// A member of a group.
pub(crate) struct RabbitMqConsumer {
    link: Arc<Link>,
    destination: Destination,
    group: Arc<str>,
    number: u64,
    queue: String,
    /// What the server calls the consumer.
    tag: ShortString,
    own: Dedicated,
    incoming: tokio::sync::Mutex<Incoming>,
    state: Mutex<State>,
    in_flight: Arc<AtomicUsize>,
    /// Whose turn it is to put frames on the channel: an ack that stands for many must not meet others halfway. Who has
    /// it tells the verdicts of all who wait for it.
    turn: tokio::sync::Mutex<()>,
    /// Told when something is to be handed out again.
    again: Notify,
    closed: watch::Sender<bool>,
    /// Whether the connection ended.
    ended: OnceCell<()>,
}

#[derive(Default)]
struct State {
    open: Outstanding<Held>,
    /// What is to be handed out again, in the order it was delivered.
    again: BTreeSet<u64>,
    /// Verdicts that the server is to be told.
    acked: Vec<u64>,
    requeued: Vec<u64>,
    /// Whether verdicts could not be told. Nothing can from then on.
    is_lost: bool,
    /// Whether verdicts are being told, or were by one who went away before it knew that they were.
    is_doubtful: bool,
}

/// What the server sends.
struct Incoming {
    consumer: lapin::Consumer,
    /// The attributes of the last delivery.
    last: Option<Arc<Attributes>>,
    /// Why nothing comes any more. The client library tells it once, and what came before it is handed out first.
    ended: Option<Error>,
}

/// A delivery that is not settled; with an ordered destination, what it takes to hand it out again.
struct Held(Option<Box<Delivery>>);

impl RabbitMqConsumer {
    pub(crate) async fn open(
        link: Arc<Link>,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Self> {
        let own = link.dedicated().await?;
        let channel = &own.channel;
        let prefetch = u16::try_from(options.max_in_flight.max(1)).unwrap_or(u16::MAX);
        link.within("the prefetch", false, channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let name = queue(&link, destination, &options.group);
        let (member, consume) = (options.member.as_ref().into(), BasicConsumeOptions::default());
        let consume = channel.basic_consume(name.as_str().into(), member, consume, arguments());
        let consumer = link.within(&format!("the consumer of the queue `{name}`"), false, consume).await?;
        Ok(RabbitMqConsumer {
            in_flight: link.count_in_flight(&name),
            queue: name,
            tag: consumer.tag(),
            link,
            destination: destination.clone(),
            group: Arc::clone(&options.group),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            own,
            incoming: tokio::sync::Mutex::new(Incoming { consumer, last: None, ended: None }),
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            again: Notify::new(),
            closed: watch::Sender::new(false),
            ended: OnceCell::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_open(&self) -> Result<()> {
        if *self.closed.borrow() {
            Err(error::closed("the consumer"))
        } else {
            self.link.check_open("the consumer")
        }
    }

    /// Takes what is there, without waiting. An error only where nothing is there.
    fn take_ready(&self, incoming: &mut Incoming, max: usize) -> Result<Vec<Delivery>> {
        if let Some(error) = &incoming.ended {
            return Err(error.replicate());
        }
        let mut taken = self.take_again(max);
        let again = taken.len();
        let received = self.link.clock.now();
        while taken.len() < max
            && let Some(item) = incoming.consumer.next().now_or_never()
            && let Some(delivery) = self.take_in(incoming, item, received)
        {
            taken.push(delivery);
        }
        self.hold(&taken[again..]);
        match &incoming.ended {
            Some(error) if taken.is_empty() => Err(error.replicate()),
            _ => Ok(taken),
        }
    }

    /// The delivery, or nothing at the end, which is kept for whoever asks next.
    fn take_in(
        &self,
        incoming: &mut Incoming,
        item: Option<lapin::Result<lapin::message::Delivery>>,
        received: Timestamp,
    ) -> Option<Delivery> {
        let error = match item {
            Some(Ok(delivery)) => return Some(self.read(incoming, delivery, received)),
            Some(Err(error)) => self.lost(&error),
            None => self.cancelled(),
        };
        incoming.ended = Some(error);
        None
    }

    fn take_again(&self, max: usize) -> Vec<Delivery> {
        let mut state = self.state();
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(tag) = state.again.pop_first()
        {
            taken.extend(state.open.get_mut(tag).and_then(|held| held.0.as_deref().cloned()));
        }
        taken
    }

    fn read(
        &self,
        incoming: &mut Incoming,
        delivered: lapin::message::Delivery,
        received: Timestamp,
    ) -> Delivery {
        let (name, last) = (&self.destination.name, incoming.last.as_ref());
        let (message, before) = message::read(name, delivered.data, &delivered.properties, received, last);
        if last.is_none_or(|last| !Arc::ptr_eq(last, &message.attributes)) {
            incoming.last = Some(Arc::clone(&message.attributes));
        }
        Delivery {
            position: Position::Id(message.id.clone()),
            message,
            // The count is the server's own only where it delivers again; at first it is whatever the publisher wrote.
            attempt: if delivered.redelivered { before.saturating_add(1) } else { 1 },
            token: Token::Numbers(self.number, delivered.delivery_tag),
        }
    }

    /// Takes in what is handed out for the first time.
    fn hold(&self, taken: &[Delivery]) {
        let mut state = self.state();
        for delivery in taken {
            if let Token::Numbers(_, tag) = delivery.token {
                let kept = self.destination.ordered.then(|| Box::new(delivery.clone()));
                state.open.add(tag, Held(kept));
            }
        }
        self.in_flight.store(state.open.len(), Ordering::Release);
    }

    /// Takes settlements in, to be told to the server. Gives one result each, which stands if it can be told.
    fn sort(&self, batch: &[Settlement]) -> Vec<Result<()>> {
        let mut state = self.state();
        let results = batch.iter().map(|settlement| {
            let Token::Numbers(number, tag) = settlement.token else { return Err(self.lease_lost()) };
            if number != self.number || !state.open.was_delivered(tag) {
                return Err(self.lease_lost());
            }
            let State { open, again, acked, requeued, .. } = &mut *state;
            match (settlement.verdict, open.get_mut(tag)) {
                // Settled before.
                (_, None) => {}
                (Verdict::Ack, Some(_)) => {
                    open.remove(tag);
                    again.remove(&tag);
                    acked.push(tag);
                }
                (verdict, Some(Held(Some(delivery)))) => {
                    let counted = u32::from(matches!(verdict, Verdict::Retry(_)));
                    delivery.attempt = delivery.attempt.saturating_add(counted);
                    again.insert(tag);
                }
                (_, Some(Held(None))) => {
                    open.remove(tag);
                    requeued.push(tag);
                }
            }
            Ok(())
        });
        let results = results.collect();
        self.in_flight.store(state.open.len(), Ordering::Release);
        if !state.again.is_empty() {
            self.again.notify_one();
        }
        results
    }

    /// Passes on what was settled, and ends the connection, which gives back the rest. One that is cut short may be begun
    /// again.
    async fn end(&self) {
        self.in_flight.store(0, Ordering::Release);
        // Verdicts that are on their way go first.
        drop(self.tell_in_turn().await);
        let _turn = self.turn.lock().await;
        match tokio::time::timeout(self.link.limit, self.pass_on()).await {
            Ok(Ok(())) => {}
            // What was not passed on comes again, as after every loss.
            Ok(Err(error)) => tracing::debug!(%error, queue = self.queue, "verdicts may be lost"),
            Err(_) => tracing::debug!(queue = self.queue, "no answer; verdicts may be lost"),
        }
        self.own.close(&self.link).await;
    }

    fn lost(&self, error: &lapin::Error) -> Error {
        error::consumer_lost(error)
            .with_context("destination", &self.destination.name)
            .with_context("group", &self.group)
    }

    fn cancelled(&self) -> Error {
        Error::new(ErrorKind::ConnectionLost, "the server ended the consumer: its queue is gone or moves")
            .with_retry(Retry::Safe)
            .with_context("destination", &self.destination.name)
            .with_context("group", &self.group)
    }

    fn lease_lost(&self) -> Error {
        Error::new(ErrorKind::LeaseLost, "the delivery is not this consumer's")
            .with_context("destination", &self.destination.name)
            .with_context("group", &self.group)
    }
}

/// What a consumer is opened with.
fn arguments() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-consumer-timeout".into(), AMQPValue::LongLongInt(CONSUMER_TIMEOUT));
    arguments
}

#[async_trait]
impl Consumer for RabbitMqConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        self.check_open()?;
        let deadline = tokio::time::Instant::now() + wait.min(LONGEST_WAIT);
        let mut closed = self.closed.subscribe();
        let mut incoming = self.incoming.lock().await;
        loop {
            // While verdicts are on their way more deliveries come; taken together they cost less than one by one.
            drop(self.turn.lock().await);
            self.check_open()?;
            let taken = self.take_ready(&mut incoming, max)?;
            if !taken.is_empty() || max == 0 {
                return Ok(taken);
            }
            tokio::select! {
                biased;
                _ = closed.wait_for(|closed| *closed) => return Err(error::closed("the consumer")),
                item = incoming.consumer.next() => {
                    let received = self.link.clock.now();
                    if let Some(first) = self.take_in(&mut incoming, item, received) {
                        let mut taken = vec![first];
                        self.hold(&taken);
                        // An end that comes after them is told by the next call.
                        taken.extend(self.take_ready(&mut incoming, max - 1).unwrap_or_default());
                        return Ok(taken);
                    }
                }
                () = self.again.notified() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Vec::new()),
            }
        }
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>> {
        if *self.closed.borrow() {
            return batch.iter().map(|_| Err(error::closed("the consumer"))).collect();
        }
        let results = self.sort(&batch);
        match self.tell_in_turn().await {
            Ok(()) => results,
            Err(error) => batch.iter().map(|_| Err(error.replicate())).collect(),
        }
    }

    async fn extend(&self) -> Result<()> {
        // The server keeps what is delivered with the channel for as long as the channel lives.
        self.check_open()
    }

    async fn close(&self) -> Result<()> {
        self.closed.send_replace(true);
        self.ended.get_or_init(|| self.end()).await;
        Ok(())
    }
}
