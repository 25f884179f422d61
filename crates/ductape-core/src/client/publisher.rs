//! Publishing to one event: what is resolved once, and what is done for each message.

use super::batcher::{Batcher, Limits};
use super::new_message::{ContentType, NewMessage};
use super::sessions::Sessions;
use crate::broker::Publisher;
use crate::capability::Batching;
use crate::config::ProviderKind;
use crate::delivery::Position;
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::guard::Guard;
use crate::message::{Attributes, BatchAttributes, IdSource, JSON, Message, MessageId, OCTET_STREAM};
use crate::sample::PayloadRule;
use crate::tag::{Event, Tag};
use crate::time::{Clock, Timestamp};
use crate::turns::{Turns, hold_until_begun};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{consume_budget, unconstrained};

/// That a message was taken: its id, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id, the same on every delivery.
    pub id: MessageId,
    /// Where it stands in its destination.
    pub position: Position,
}

/// Publishes to one event in one env. Resolved once, for hot loops; cheap to clone; used from many tasks at once.
#[derive(Clone)]
pub struct EventPublisher(Arc<Inner>);

pub(super) struct Inner {
    pub(super) event: Event,
    pub(super) env: Tag,
    pub(super) kind: ProviderKind,
    pub(super) guard: Guard,
    pub(super) publisher: Arc<dyn Publisher>,
    pub(super) json: Arc<Attributes>,
    pub(super) octets: Arc<Attributes>,
    pub(super) rule: Option<PayloadRule>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) clock: Clock,
    /// One permit a message under way; past them publish waits.
    pub(super) pending: Semaphore,
    pub(super) max_pending: usize,
    /// The order of those who wait for permits.
    pub(super) turns: Turns,
    pub(super) deadline: Duration,
}

/// What [`EventPublisher`] is made from.
pub(super) struct Target {
    pub(super) product: Tag,
    pub(super) event: Event,
    pub(super) env: Tag,
    pub(super) kind: ProviderKind,
    pub(super) guard: Guard,
    pub(super) rule: Option<PayloadRule>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) clock: Clock,
    pub(super) max_pending: usize,
    pub(super) deadline: Duration,
}

impl EventPublisher {
    pub(super) fn new(publisher: Arc<dyn Publisher>, target: Target) -> Self {
        let publisher = match target.guard.capabilities().batching {
            Batching::Provider => publisher,
            Batching::Core { max_messages, max_bytes, in_flight } => {
                Arc::new(Batcher::start(publisher, Limits { max_messages, max_bytes, in_flight }))
            }
        };
        let attributes = |content_type: &str| {
            Arc::new(Attributes {
                source: format!("/{}", target.product).into(),
                event: target.event.shared(),
                content_type: content_type.into(),
            })
        };
        let max_pending = target.max_pending.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        EventPublisher(Arc::new(Inner {
            json: attributes(JSON),
            octets: attributes(OCTET_STREAM),
            event: target.event,
            env: target.env,
            kind: target.kind,
            guard: target.guard,
            publisher,
            rule: target.rule,
            sessions: target.sessions,
            clock: target.clock,
            pending: Semaphore::new(max_pending),
            max_pending,
            turns: Turns::default(),
            deadline: target.deadline,
        }))
    }

    /// The event that it publishes to.
    pub fn event(&self) -> &Event {
        &self.0.event
    }

    /// Publishes one message, and returns when the provider has taken it for good.
    ///
    /// # Errors
    /// Refused, and nothing happened: `MESSAGE_INVALID`, `MESSAGE_TOO_LARGE`, `SESSION_INVALID`, `DESTINATION_FULL`, `THROTTLED`, ….
    /// Uncertain ([`Error::is_uncertain`]): it was sent and no answer came within the deadline.
    pub async fn publish(&self, message: NewMessage) -> Result<Receipt> {
        let inner = &*self.0;
        let (mut ids, mut attributes) = (IdSource::new(), BatchAttributes::new(1));
        let message = inner.message(message, inner.clock.now(), &mut ids, &mut attributes);
        let message = message.map_err(|error| inner.located(error))?;
        let id = message.id.clone();
        let position = inner.hand_on(vec![message]).await.pop();
        let missing = || Err(Error::new(ErrorKind::ProviderFailed, "the provider gave no result"));
        inner.receipt(id, position.unwrap_or_else(missing))
    }

    /// Publishes many messages as one batch: as many results as messages, in their order. A message that is
    /// refused does not stop the others; those of one key are taken in their order.
    ///
    /// # Errors
    /// Each its own, as [`EventPublisher::publish`] has them.
    pub async fn publish_batch(
        &self,
        messages: impl IntoIterator<Item = NewMessage>,
    ) -> Vec<Result<Receipt>> {
        self.0.publish(self.0.prepare(messages)).await
    }

    /// Publishes messages that were delivered elsewhere, as they are: id, time, key, headers, payload and metadata
    /// stay what they were. As many results as messages, in their order. For whoever copies from one env to another;
    /// neither sample nor schema is asked again.
    ///
    /// # Errors
    /// Each its own, as [`EventPublisher::publish`] has them.
    pub async fn forward(&self, messages: impl IntoIterator<Item = Message>) -> Vec<Result<Receipt>> {
        let mut prepared = Prepared::default();
        for (index, message) in messages.into_iter().enumerate() {
            let checked = self.0.guard.message(&message).map(|()| message);
            prepared.push(index, checked.map_err(|error| self.0.located(error)));
        }
        self.0.publish(prepared).await
    }
}

/// Messages that may go to the provider, and what was refused before.
#[derive(Default)]
struct Prepared {
    messages: Vec<Message>,
    ids: Vec<MessageId>,
    /// Index in the user's batch and error, by index.
    refused: Vec<(usize, Error)>,
}

impl Prepared {
    fn push(&mut self, index: usize, message: Result<Message>) {
        match message {
            Ok(message) => {
                self.ids.push(message.id.clone());
                self.messages.push(message);
            }
            Err(error) => self.refused.push((index, error)),
        }
    }
}

impl Inner {
    fn prepare(&self, messages: impl IntoIterator<Item = NewMessage>) -> Prepared {
        let messages = messages.into_iter();
        let expected = messages.size_hint().0;
        let mut prepared = Prepared {
            messages: Vec::with_capacity(expected),
            ids: Vec::with_capacity(expected),
            refused: Vec::new(),
        };
        let now = self.clock.now();
        let (mut ids, mut attributes) = (IdSource::new(), BatchAttributes::new(expected));
        for (index, message) in messages.enumerate() {
            let message = self.message(message, now, &mut ids, &mut attributes);
            prepared.push(index, message.map_err(|error| self.located(error)));
        }
        prepared
    }

    async fn publish(&self, prepared: Prepared) -> Vec<Result<Receipt>> {
        let positions = self.hand_on(prepared.messages).await;
        self.receipts(prepared.ids, prepared.refused, positions)
    }

    async fn hand_on(&self, messages: Vec<Message>) -> Vec<Result<Position>> {
        // The order of messages is that of first polls. A task whose time is up would stop such a poll before it is in
        // line anywhere, and another's could overtake it: so the yielding is done afterwards.
        let positions = unconstrained(self.send(messages)).await;
        consume_budget().await;
        positions
    }

    async fn send(&self, messages: Vec<Message>) -> Vec<Result<Position>> {
        let count = messages.len();
        let permits = count.min(self.max_pending) as u32;
        let publishing = || tokio::time::timeout(self.deadline, self.publisher.publish(messages));
        // The permits are held until the results are here.
        let answered = match self.turns.at_once(|| self.pending.try_acquire_many(permits).ok()) {
            Ok(_pending) => publishing().await,
            Err(place) => {
                // A permit alone would not keep the order: who has been given one may be polled after who comes next.
                let turn = place.turn().await;
                // The semaphore is never closed.
                let _pending = self.pending.acquire_many(permits).await;
                hold_until_begun(turn, publishing()).await
            }
        };
        answered.unwrap_or_else(|_| (0..count).map(|_| Err(self.unanswered())).collect())
    }

    fn message(
        &self,
        mut new: NewMessage,
        now: Timestamp,
        ids: &mut IdSource,
        batch: &mut BatchAttributes,
    ) -> Result<Message> {
        if let Some(session) = new.session.take() {
            let verified = self.sessions.verify(&session.tag, &session.token, now)?;
            new.verified(verified);
        }
        if let Some(rule) = &self.rule {
            rule.check_bytes(&new.payload)?;
        }
        let attributes = match &new.content_type {
            ContentType::Json => batch.like(&self.json),
            ContentType::OctetStream => batch.like(&self.octets),
            other => Arc::new(Attributes { content_type: other.as_str().into(), ..(*self.octets).clone() }),
        };
        let message = Message {
            payload: new.payload,
            key: new.key,
            headers: new.headers,
            id: ids.next(now),
            time: now,
            attributes,
            extensions: new.extensions,
        };
        self.guard.message(&message)?;
        Ok(message)
    }

    /// Puts results and refusals together in the order of the user's batch.
    fn receipts(
        &self,
        ids: Vec<MessageId>,
        refused: Vec<(usize, Error)>,
        positions: Vec<Result<Position>>,
    ) -> Vec<Result<Receipt>> {
        let taken = ids.into_iter().zip(positions).map(|(id, position)| self.receipt(id, position));
        if refused.is_empty() {
            return taken.collect();
        }
        let mut results: Vec<_> = taken.collect();
        for (index, error) in refused {
            results.insert(index.min(results.len()), Err(error));
        }
        results
    }

    fn receipt(&self, id: MessageId, position: Result<Position>) -> Result<Receipt> {
        match position {
            Ok(position) => Ok(Receipt { id, position }),
            Err(error) => Err(self.located(error)),
        }
    }

    fn located(&self, error: Error) -> Error {
        error
            .with_context("event", &self.event)
            .with_context("env", &self.env)
            .with_context("provider", self.kind)
    }

    fn unanswered(&self) -> Error {
        Error::new(ErrorKind::Timeout, format!("no answer to the publish within {:?}", self.deadline))
            .with_retry(Retry::Uncertain)
            .with_help("it may have been taken: publish again only where a duplicate does no harm")
    }
}

impl fmt::Debug for EventPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventPublisher")
            .field("event", &self.0.event)
            .field("env", &self.0.env)
            .field("provider", &self.0.kind)
            .finish_non_exhaustive()
    }
}
