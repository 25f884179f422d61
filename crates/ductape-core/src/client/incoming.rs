//! Deliveries for those who settle by hand: a stream, and on each item the verdicts as methods.
//!
//! ```text
//!  Consumer::receive ─▶ feeder ─▶ bounded channel ─▶ Incoming ─▶ user ─▶ verdict ─▶ settler ─▶ Consumer::settle
//! ```
//!
//! The feeder keeps the leases and replaces a lost consumer; the settler puts verdicts together that come
//! while a settle call is under way. An item that is dropped without a verdict is released.

mod settler;

use crate::broker::Consumer;
use crate::dead_letter::{DeadLetterSink, bury};
use crate::delivery::{Delivery, Settlement, Verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::retry::RetryPolicy;
use crate::time::Clock;
use crate::worker::{WorkerSource, is_lost, keep_leases};
use futures_core::Stream;
use settler::{CALL_LIMIT, Order, settle_all};
use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Deliveries to be settled by hand, as a [`Stream`]. At most `max_in_flight` are unsettled at a time; past
/// them the stream waits for verdicts. Dropping it closes the consumer in the background.
#[derive(Debug)]
pub struct IncomingStream {
    items: mpsc::Receiver<Result<Incoming>>,
    stop: watch::Sender<bool>,
    closed: oneshot::Receiver<()>,
}

/// One delivery to be settled by hand. It reads as its [`Delivery`].
#[must_use = "a delivery that is dropped is released and comes again"]
pub struct Incoming {
    delivery: Delivery,
    source: Arc<Source>,
    settler: mpsc::UnboundedSender<Order>,
    context: Arc<Place>,
    settled: bool,
}

/// The consumer that handed deliveries out.
struct Source {
    consumer: Arc<dyn Consumer>,
    /// Whether it did not take a verdict, and is to be replaced.
    given_up: watch::Sender<bool>,
}

struct Place {
    dead_letters: Arc<DeadLetterSink>,
    group: Arc<str>,
    clock: Clock,
}

impl IncomingStream {
    /// Opens a consumer and a stream on it.
    ///
    /// # Errors
    /// Those of [`crate::Broker::consumer`].
    pub(super) async fn open(source: WorkerSource) -> Result<Self> {
        let consumer = source.open().await?;
        let (items_tx, items) = mpsc::channel(source.consumer.max_in_flight.clamp(1, 1024));
        let (stop, stopping) = watch::channel(false);
        let (closed_tx, closed) = oneshot::channel();
        tokio::spawn(async move {
            Feeder::new(source, items_tx).run(consumer, stopping).await;
            // Nobody may be waiting for the end.
            let _ = closed_tx.send(());
        });
        Ok(IncomingStream { items, stop, closed })
    }

    /// The next delivery; `None` after [`IncomingStream::close`]. An error is told and the stream goes on, with
    /// another consumer where this one is lost.
    pub async fn next(&mut self) -> Option<Result<Incoming>> {
        self.items.recv().await
    }

    /// Waits for the next delivery as [`IncomingStream::next`] does, and hands it over together with those that are
    /// ready behind it, `most` in all. Empty after [`IncomingStream::close`]. With [`Incoming::ack_all`] it costs
    /// one call where many deliveries are dealt with as one.
    pub async fn next_many(&mut self, most: usize) -> Vec<Result<Incoming>> {
        let mut ready = Vec::new();
        self.items.recv_many(&mut ready, most.max(1)).await;
        ready
    }

    /// Takes no more, gives back what was not handed out, and closes the consumer. Verdicts on what was
    /// handed out before must be said first; what has none comes again.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        self.items.close();
        while let Some(item) = self.items.recv().await {
            drop(item);
        }
        // An error means that the feeder is gone already.
        let _ = (&mut self.closed).await;
    }
}

impl Stream for IncomingStream {
    type Item = Result<Incoming>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.poll_recv(cx)
    }
}

impl Incoming {
    /// Acknowledges: it never comes back to this group.
    ///
    /// # Errors
    /// `LEASE_LOST` where it is no longer this consumer's. Any other, once telling it again for 30 s has not helped:
    /// the consumer is replaced, and what is unsettled comes again.
    pub async fn ack(self) -> Result<()> {
        self.settle(Verdict::Ack).await
    }

    /// Acknowledges many at once: as many results as deliveries, in their order.
    ///
    /// # Errors
    /// Each its own, as [`Incoming::ack`] has them.
    pub async fn ack_all(deliveries: Vec<Incoming>) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(deliveries.len());
        let mut answers = Vec::new();
        let mut rest = deliveries.into_iter().peekable();
        // Around a reconnect there are deliveries of two consumers; each gets its own.
        while let Some(mut first) = rest.next() {
            let mut settlements = vec![first.verdict(Verdict::Ack)];
            while let Some(mut next) = rest.next_if(|next| Arc::ptr_eq(&next.source, &first.source)) {
                settlements.push(next.verdict(Verdict::Ack));
            }
            answers.push((settlements.len(), first.order(settlements)));
        }
        for (count, answer) in answers {
            match answer.await {
                Ok(part) => results.extend(part),
                Err(_) => results.extend((0..count).map(|_| Err(Error::closed("the consumer")))),
            }
        }
        results
    }

    /// Says that it failed: it comes again, not before this long from now, with its attempt counted. Where the
    /// provider cannot wait it comes at once.
    ///
    /// # Errors
    /// As [`Incoming::ack`].
    pub async fn retry_after(self, delay: Duration) -> Result<()> {
        self.settle(Verdict::Retry(delay)).await
    }

    /// Gives it back untried, for another member.
    ///
    /// # Errors
    /// As [`Incoming::ack`].
    pub async fn release(self) -> Result<()> {
        self.settle(Verdict::Release).await
    }

    /// Dead-letters it with this reason; it is acknowledged only after its dead letter was taken.
    ///
    /// # Errors
    /// Those of the publish of the dead letter (the delivery is then released), and of [`Incoming::ack`].
    pub async fn reject(self, reason: impl fmt::Display) -> Result<()> {
        let place = Arc::clone(&self.context);
        let sink = &place.dead_letters;
        let now = place.clock.now();
        sink.publish(bury(&self.delivery, sink.origin(), &place.group, &reason.to_string(), now)).await?;
        self.settle(Verdict::Ack).await
    }

    async fn settle(mut self, verdict: Verdict) -> Result<()> {
        let settlement = self.verdict(verdict);
        let answer = self.order(vec![settlement]).await.ok().and_then(|mut results| results.pop());
        answer.unwrap_or_else(|| Err(Error::closed("the consumer")))
    }

    /// Acknowledges what was redriven for another group, unseen.
    fn pass_over(mut self) {
        let settlements = vec![self.verdict(Verdict::Ack)];
        drop(self.order(settlements));
    }

    fn verdict(&mut self, verdict: Verdict) -> Settlement {
        self.settled = true;
        Settlement { token: self.delivery.token.clone(), verdict }
    }

    fn order(&self, settlements: Vec<Settlement>) -> oneshot::Receiver<Vec<Result<()>>> {
        let (done, answer) = oneshot::channel();
        let order = Order { source: Arc::clone(&self.source), settlements, done: Some(done) };
        // The settler goes after the last item; without one the consumer is closed and has released it.
        let _ = self.settler.send(order);
        answer
    }
}

impl Deref for Incoming {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.delivery
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.settled {
            let settlements = vec![self.verdict(Verdict::Release)];
            let order = Order { source: Arc::clone(&self.source), settlements, done: None };
            // As above: without a settler it is released already.
            let _ = self.settler.send(order);
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Incoming").field(&self.delivery).finish()
    }
}

/// Takes deliveries and keeps their leases.
struct Feeder {
    source: WorkerSource,
    items: mpsc::Sender<Result<Incoming>>,
    settler: mpsc::UnboundedSender<Order>,
    settling: tokio::task::JoinHandle<()>,
    context: Arc<Place>,
}

impl Feeder {
    fn new(source: WorkerSource, items: mpsc::Sender<Result<Incoming>>) -> Self {
        let context = Arc::new(Place {
            dead_letters: Arc::clone(&source.dead_letters),
            group: Arc::clone(&source.consumer.group),
            clock: source.clock.clone(),
        });
        // Bounded by `max_in_flight`: one order a delivery.
        let (settler, orders) = mpsc::unbounded_channel();
        let settling = tokio::spawn(settle_all(orders, source.clock.clone()));
        Feeder { source, items, settler, settling, context }
    }

    async fn run(self, consumer: Arc<dyn Consumer>, mut stopping: watch::Receiver<bool>) {
        let mut current = Some(consumer);
        let mut failed = 0;
        while let Some(consumer) = current.take() {
            let source = Arc::new(Source { consumer, given_up: watch::Sender::new(false) });
            let end = tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => None,
                error = self.given_up(&source) => Some(error),
                error = self.feed(&source, &mut failed) => error,
                () = self.keep(&source) => None,
            };
            let Some(error) = end else { return self.close(&source.consumer).await };
            // A lost one gives back what it had, at the latest, when nobody holds it.
            drop(source);
            if self.items.send(Err(error)).await.is_ok() {
                current = self.reopen(&mut failed, &mut stopping).await;
            }
        }
    }

    /// Waits until the consumer did not take a verdict, and has it give back what it holds.
    async fn given_up(&self, source: &Source) -> Error {
        let mut given_up = source.given_up.subscribe();
        // The sender lives as long as `source`.
        let _ = given_up.wait_for(|given_up| *given_up).await;
        let _ = tokio::time::timeout(CALL_LIMIT, source.consumer.close()).await;
        Error::new(ErrorKind::ConnectionLost, "the consumer did not take a verdict")
    }

    /// Renews leases for ever: a consumer that is closed ends otherwise.
    async fn keep(&self, source: &Source) {
        keep_leases(&*source.consumer, &self.source.clock, self.source.consumer.lease).await;
        std::future::pending().await
    }

    /// Hands deliveries over until the consumer is lost (the error) or nobody takes them (`None`).
    async fn feed(&self, source: &Arc<Source>, failed: &mut u32) -> Option<Error> {
        loop {
            let room = self.items.reserve().await.ok()?;
            drop(room);
            match self.source.receive(&*source.consumer, self.source.consumer.max_in_flight).await {
                Ok(deliveries) => {
                    *failed = 0;
                    for delivery in deliveries {
                        let is_anothers = delivery.message.is_for_another_group(&self.context.group);
                        let incoming = self.incoming(delivery, source);
                        if is_anothers {
                            incoming.pass_over();
                        } else {
                            self.items.send(Ok(incoming)).await.ok()?;
                        }
                    }
                }
                Err(error) if is_lost(&error) => return Some(error),
                Err(error) => {
                    *failed = failed.saturating_add(1);
                    let wait = RetryPolicy::reconnect().delay(*failed, fastrand::f64());
                    self.items.send(Err(error)).await.ok()?;
                    self.source.clock.sleep(wait).await;
                }
            }
        }
    }

    fn incoming(&self, delivery: Delivery, source: &Arc<Source>) -> Incoming {
        Incoming {
            delivery,
            source: Arc::clone(source),
            settler: self.settler.clone(),
            context: Arc::clone(&self.context),
            settled: false,
        }
    }

    async fn reopen(
        &self,
        failed: &mut u32,
        stopping: &mut watch::Receiver<bool>,
    ) -> Option<Arc<dyn Consumer>> {
        loop {
            *failed = failed.saturating_add(1);
            let wait = RetryPolicy::reconnect().delay(*failed, fastrand::f64());
            let open = async {
                self.source.clock.sleep(wait).await;
                self.source.reopen().await
            };
            let opened = tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return None,
                () = self.items.closed() => return None,
                opened = open => opened,
            };
            match opened {
                Ok(consumer) => return Some(consumer),
                Err(error) => self.items.send(Err(error)).await.ok()?,
            }
        }
    }

    async fn close(self, consumer: &Arc<dyn Consumer>) {
        let Feeder { items, settler, settling, .. } = self;
        drop((items, settler));
        // Verdicts on what users still hold may take any time; what is not settled in time comes again.
        let _ = tokio::time::timeout(CALL_LIMIT, settling).await;
        let _ = tokio::time::timeout(CALL_LIMIT, consumer.close()).await;
    }
}
