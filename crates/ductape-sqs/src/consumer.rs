//! Consuming: receives that wait at the server while the worker asks, and verdicts that are told in batches.
//!
//! ```text
//!  receive ─▶ plan ─▶ up to 16 receives under way, each waits up to 20 s ─▶ hand ─▶ deliveries
//!                                                                            │
//!  settle ──▶ settler: deletes and changes of visibility, ten a request ◀────┘
//! ```
//!
//! A receive at the server outlives the call that began it: what it brings waits in the hand for the next call. It
//! cannot be taken back either, since SQS may be answering already. So at the close it goes on by itself, for
//! 20 s at most, and gives back at once whatever it still brings.

use crate::answer::{self, Ticket};
use crate::hand::{Found, Hand, Held, Hidden};
use crate::link::Link;
use crate::poll::poll;
use crate::renewal::renew;
use crate::settler::{self, Cause, Order, Say};
use async_trait::async_trait;
use ductape_core::{
    Consumer, ConsumerOptions, Delivery, Destination, Error, ErrorKind, Result, Settlement, Token, Verdict,
};
use futures_util::stream::{self, StreamExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// Tells deliveries of one consumer from those of another.
static NUMBERS: AtomicU64 = AtomicU64::new(1);
/// The longest that SQS lets a receive wait.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How often a consumer at its bound looks whether leases ran out.
const LOOK: Duration = Duration::from_millis(500);
/// Requests at once when leases are renewed.
const RENEWALS: usize = 8;

/// The member of a queue's one group. Dropped without a close, it gives back what it holds all the same.
pub(crate) struct SqsConsumer(Arc<Member>);

/// A member with the way to tell SQS of verdicts. Receives that are under way hold it too.
pub(crate) struct Member {
    pub(crate) shared: Arc<Shared>,
    /// Bounded by `max_in_flight`: each order is of one message in hand.
    orders: mpsc::UnboundedSender<Order>,
}

/// What a consumer shares with its settler.
pub(crate) struct Shared {
    pub(crate) link: Arc<Link>,
    pub(crate) queue: Arc<str>,
    pub(crate) url: Arc<str>,
    /// In all tokens of this consumer.
    pub(crate) number: u64,
    pub(crate) lease: Duration,
    pub(crate) bound: usize,
    hand: Mutex<Hand>,
    /// Told when something came in, or when room was made.
    pub(crate) changed: Notify,
    pub(crate) closed: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn hand(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(crate) fn located(&self, error: Error) -> Error {
        error.with_context("destination", &self.queue)
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed() { Err(Error::closed("the consumer")) } else { Ok(()) }
    }

    fn lease_lost(&self) -> Error {
        self.located(Error::new(ErrorKind::LeaseLost, "the delivery is not this consumer's any more"))
    }
}

/// A time in the unit of SQS, rounded up.
pub(crate) fn seconds(time: Duration) -> i32 {
    let whole = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    i32::try_from(whole).unwrap_or(i32::MAX)
}

impl Member {
    /// Gives everything back without waiting until SQS has it.
    pub(crate) fn let_go(&self) {
        self.shared.closed.send_replace(true);
        let held = self.shared.hand().clear();
        self.release(held);
        self.shared.changed.notify_one();
    }

    fn release(&self, held: Vec<(u64, Held)>) {
        held.into_iter().for_each(|(number, held)| self.give_back(number, held, None));
    }

    fn give_back(&self, number: u64, held: Held, ticket: Option<Ticket<()>>) {
        let say = Say::Hide(Duration::ZERO);
        self.tell(Order { number, held, say, cause: Cause::Release, ticket });
    }

    /// Tells a delay again that a renewal may have undone.
    pub(crate) fn hide_again(&self, hidden: Hidden) {
        let Hidden { number, held, until } = hidden;
        let left = until.saturating_duration_since(Instant::now());
        // What may come by now may be with another.
        if !left.is_zero() {
            self.tell(Order { number, held, say: Say::Hide(left), cause: Cause::Again, ticket: None });
        }
    }

    fn tell(&self, order: Order) {
        // The settler lives as long as its senders.
        let _ = self.orders.send(order);
    }

    /// Closes, and returns when what was in hand is back.
    pub(crate) async fn close(&self) {
        if self.shared.closed.send_replace(true) {
            return;
        }
        self.shared.changed.notify_one();
        let held = self.shared.hand().clear();
        let (tickets, answer) = answer::call(held.len());
        for ((number, held), ticket) in held.into_iter().zip(tickets) {
            self.give_back(number, held, Some(ticket));
        }
        let unreleased = answer.wait().await.into_iter().filter_map(Result::err);
        unreleased.for_each(|error| tracing::debug!(%error, "not given back; it comes again by its lease"));
    }

    /// Sorts a verdict into what SQS is to be told.
    fn order(&self, hand: &mut Hand, settlement: &Settlement, ticket: Ticket<()>) {
        let Token::Numbers(consumer, number) = settlement.token else {
            return ticket.answer(Err(self.shared.lease_lost()));
        };
        let now = Instant::now();
        let found = if consumer == self.shared.number { hand.begin(number, now) } else { Found::Lost };
        let held = match found {
            Found::Held(held) => held,
            Found::BeingTold => return hand.join(number, ticket),
            Found::Settled => return ticket.answer(Ok(())),
            Found::Lost => return ticket.answer(Err(self.shared.lease_lost())),
        };
        let say = match settlement.verdict {
            Verdict::Ack => Say::Delete,
            Verdict::Retry(delay) => Say::Hide(delay),
            Verdict::Release => Say::Hide(Duration::ZERO),
        };
        if let Say::Hide(delay) = say {
            hand.hide(number, &held, delay, now);
            if let Some(group) = &held.group {
                self.release(hand.recall(group));
            }
        }
        self.tell(Order { number, held, say, cause: Cause::Verdict, ticket: Some(ticket) });
    }
}

impl SqsConsumer {
    /// Starts the settler. It ends with the consumer and its last receive.
    pub(crate) fn start(
        link: Arc<Link>,
        destination: &Destination,
        url: Arc<str>,
        options: &ConsumerOptions,
    ) -> Self {
        let shared = Arc::new(Shared {
            link,
            queue: Arc::clone(&destination.name),
            url,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            lease: Duration::from_secs(seconds(options.lease).max(1).unsigned_abs().into()),
            bound: options.max_in_flight.max(1),
            hand: Mutex::new(Hand::new(options.max_in_flight)),
            changed: Notify::new(),
            closed: watch::Sender::new(false),
        });
        let (orders, queue) = mpsc::unbounded_channel();
        tokio::spawn(settler::run(Arc::clone(&shared), queue));
        let member = Arc::new(Member { shared, orders });
        member.shared.link.own(&member);
        SqsConsumer(member)
    }

    /// Takes what is there, and begins the receives for what is not.
    fn look(&self, max: usize, wait: Duration) -> (Vec<Delivery>, Option<Error>, bool) {
        let shared = &self.0.shared;
        let mut hand = shared.hand();
        let now = Instant::now();
        let taken = hand.take(max, now);
        let failure = if taken.is_empty() { hand.take_failure() } else { None };
        if failure.is_none() {
            for asked in hand.plan(max - taken.len(), now) {
                tokio::spawn(poll(Arc::clone(&self.0), asked, wait.min(LONGEST_WAIT)));
            }
        }
        let full = hand.is_full();
        (taken, failure, full)
    }
}

#[async_trait]
impl Consumer for SqsConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let shared = &self.0.shared;
        let deadline = Instant::now() + wait;
        loop {
            shared.check_open()?;
            let (taken, failure, full) = self.look(max, deadline.saturating_duration_since(Instant::now()));
            match failure {
                _ if !taken.is_empty() || max == 0 => return Ok(taken),
                Some(error) => return Err(shared.located(error)),
                None => {}
            }
            let until = if full { deadline.min(Instant::now() + LOOK) } else { deadline };
            tokio::select! {
                () = shared.changed.notified() => {}
                () = tokio::time::sleep_until(until) => {
                    if until == deadline {
                        return Ok(Vec::new());
                    }
                }
            }
        }
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>> {
        if let Err(closed) = self.0.shared.check_open() {
            return batch.iter().map(|_| Err(closed.replicate())).collect();
        }
        let (tickets, answer) = answer::call(batch.len());
        {
            let mut hand = self.0.shared.hand();
            for (settlement, ticket) in batch.iter().zip(tickets) {
                self.0.order(&mut hand, settlement, ticket);
            }
        }
        answer.wait().await
    }

    async fn extend(&self) -> Result<()> {
        let shared = &self.0.shared;
        shared.check_open()?;
        // What was received just now is renewed by the next call, which comes before two thirds of the lease are over.
        let due = shared.hand().due(shared.lease * 5 / 6, Instant::now());
        let tens: Vec<Vec<_>> = due.chunks(settler::MAX_ENTRIES).map(<[_]>::to_vec).collect();
        let renewals = stream::iter(tens).map(|ten| renew(&self.0, ten)).buffer_unordered(RENEWALS);
        let results: Vec<Result<()>> = renewals.collect().await;
        results.into_iter().collect::<Result<()>>().map_err(|error| shared.located(error))
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await;
        Ok(())
    }
}

impl Drop for SqsConsumer {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_never_shorter_in_seconds() {
        for (millis, expected) in [(0, 0), (1, 1), (1000, 1), (1001, 2), (30_000, 30)] {
            assert_eq!(seconds(Duration::from_millis(millis)), expected);
        }
        assert_eq!(seconds(Duration::MAX), i32::MAX);
    }
}
