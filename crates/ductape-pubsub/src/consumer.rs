//! Consuming: a [stream](crate::pull) fills what is [held](crate::outstanding); verdicts go out in batches, and each
//! result is the server's answer.

use crate::error::{self, Effect};
use crate::link::Link;
use crate::names;
use crate::outstanding::{Outstanding, Told};
use crate::protocol::{
    ACKNOWLEDGE, AcknowledgeRequest, MODIFY_ACK_DEADLINE, ModifyAckDeadlineRequest, Nothing,
};
use crate::pull::{Inbox, MAX_IDS, as_told};
use async_trait::async_trait;
use ductape_core::error::Retry;
use ductape_core::{
    Consumer, ConsumerOptions, Delivery, Destination, Error, ErrorKind, Result, Settlement, Token,
};
use futures_util::future::join_all;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OnceCell, watch};
use tokio::task::JoinSet;
use tonic::Status;

/// Tells deliveries of one consumer from those of another.
static NUMBERS: AtomicU64 = AtomicU64::new(1);
/// How long the server has to end a stream that we ended.
pub(crate) const GOODBYE: Duration = Duration::from_secs(5);
/// The shortest lease that Pub/Sub keeps, in seconds.
const SHORTEST_LEASE: u64 = 10;
/// The longest.
const LONGEST_LEASE: Duration = Duration::from_secs(600);

/// A member of a group.
pub(crate) struct PubSubConsumer {
    pub(crate) inbox: Arc<Inbox>,
    /// The short name of the subscription.
    pub(crate) subscription: String,
    group: Arc<str>,
    /// The task that reads the stream, until the consumer is closed. It ends with its owner.
    reader: tokio::sync::Mutex<JoinSet<()>>,
    /// Whether what was held is given back.
    ended: OnceCell<()>,
}

/// An ack id with the delivery that it settles, and the place of its verdict in the batch.
struct Item {
    place: usize,
    number: u64,
    ack_id: String,
}

/// What the server is told of ack ids.
#[derive(Clone, Copy)]
enum Order {
    Ack,
    /// The lease that they are to have from now on, in seconds; 0 gives them up.
    Lease(i32),
}

/// Acknowledgements under way. Dropped without their answers they are so no more.
struct Acking<'s> {
    inbox: &'s Inbox,
    batch: &'s [Settlement],
}

impl Drop for Acking<'_> {
    fn drop(&mut self) {
        let mut held = self.inbox.held();
        for settlement in self.batch {
            if let Token::Numbers(consumer, number) = settlement.token
                && consumer == self.inbox.number
            {
                held.unanswered(number);
            }
        }
    }
}

/// Refuses a lease that the service would end between two renewals, of which core makes three in what was asked for.
///
/// # Errors
/// `CONFIG_INVALID`.
pub(crate) fn check_lease(lease: Duration) -> Result<()> {
    if lease <= LONGEST_LEASE {
        return Ok(());
    }
    let message = format!("a lease of {lease:?} is longer than the {LONGEST_LEASE:?} that Pub/Sub keeps one");
    Err(Error::new(ErrorKind::ConfigInvalid, message).with_help(
        "ask for a `lease` of 10 min or less: it is renewed while a handler runs, however long, and says only how soon \
         others get what a dead process had in hand",
    ))
}

impl PubSubConsumer {
    /// A consumer that begins to read. Its lease is one that [`check_lease`] lets pass.
    pub(crate) fn open(link: Arc<Link>, destination: &Destination, options: &ConsumerOptions) -> Self {
        let subscription = names::of_group(destination, &options.group, link.names_subscription);
        let seconds = options.lease.as_secs() + u64::from(options.lease.subsec_nanos() > 0);
        let lease = Duration::from_secs(seconds.max(SHORTEST_LEASE));
        let inbox = Arc::new(Inbox {
            subscription: names::subscription(&link.project, &subscription),
            link,
            destination: Arc::clone(&destination.name),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            bound: options.max_in_flight.max(1),
            lease,
            member: Arc::clone(&options.member),
            held: Mutex::new(Outstanding::new(destination.ordered, lease)),
            arrived: Notify::new(),
            settled: Notify::new(),
            failure: Mutex::default(),
            stopping: watch::Sender::new(false),
        });
        let filled = Arc::clone(&inbox);
        let mut reader = JoinSet::new();
        reader.spawn(async move { filled.fill().await });
        let group = Arc::clone(&options.group);
        let reader = tokio::sync::Mutex::new(reader);
        PubSubConsumer { inbox, subscription, group, reader, ended: OnceCell::new() }
    }

    /// How many it has handed out.
    pub(crate) fn handed(&self) -> u64 {
        self.inbox.held().handed() as u64
    }

    fn check_open(&self) -> Result<()> {
        if self.inbox.is_stopping() {
            return Err(Error::closed("the consumer"));
        }
        self.inbox.link.check_open("the consumer")
    }

    /// Tells the server, in as many requests as it takes, all at once. One result each.
    async fn tell(&self, order: Order, items: Vec<Item>) -> Vec<(Item, Result<()>)> {
        let mut requests = Vec::with_capacity(items.len() / MAX_IDS + 1);
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            requests.push(self.tell_some(order, items.by_ref().take(MAX_IDS).collect()));
        }
        join_all(requests).await.into_iter().flatten().collect()
    }

    async fn tell_some(&self, order: Order, items: Vec<Item>) -> Vec<(Item, Result<()>)> {
        let ack_ids = items.iter().map(|item| item.ack_id.clone()).collect();
        let (subscription, link) = (self.inbox.subscription.clone(), &self.inbox.link);
        let resource = ("subscription", &*self.inbox.subscription);
        let told: Result<Nothing, _> = match order {
            Order::Ack => {
                let what = (ACKNOWLEDGE, "the acknowledgement", Effect::Same);
                link.call(what, resource, AcknowledgeRequest { subscription, ack_ids }).await
            }
            Order::Lease(ack_deadline_seconds) => {
                let what = (MODIFY_ACK_DEADLINE, "the lease", Effect::Same);
                let request = ModifyAckDeadlineRequest { subscription, ack_deadline_seconds, ack_ids };
                link.call(what, resource, request).await
            }
        };
        match told {
            Ok(Nothing {}) => items.into_iter().map(|item| (item, Ok(()))).collect(),
            Err((error, status)) => self.failed(items, &error, status.as_ref()),
        }
    }

    /// One failure is everybody's, except where the server tells the fate of each that failed.
    fn failed(&self, items: Vec<Item>, error: &Error, status: Option<&Status>) -> Vec<(Item, Result<()>)> {
        let fates = status.map_or_else(HashMap::new, error::fates);
        let fate = |item: Item| {
            let result = match fates.get(&item.ack_id) {
                _ if fates.is_empty() => Err(self.located(error.replicate())),
                None => Ok(()),
                Some(true) => Err(self.located(error.replicate().with_retry(Retry::Safe))),
                Some(false) => Err(self.lease_lost()),
            };
            (item, result)
        };
        items.into_iter().map(fate).collect()
    }

    /// Sorts verdicts into what the server is to be told. Gives one result each, which stands where there is nothing
    /// to tell.
    fn sort(&self, batch: &[Settlement]) -> (Vec<Item>, Vec<Item>, Vec<Result<()>>) {
        let (now, mut held) = (Instant::now(), self.inbox.held());
        let (mut acks, mut nacks, mut results) = (Vec::new(), Vec::new(), Vec::with_capacity(batch.len()));
        for (place, settlement) in batch.iter().enumerate() {
            let number = match settlement.token {
                Token::Numbers(consumer, number) if consumer == self.inbox.number => number,
                _ => {
                    results.push(Err(self.lease_lost()));
                    continue;
                }
            };
            results.push(match held.settle(number, settlement.verdict, now) {
                Told::Lost => Err(self.lease_lost()),
                Told::Nothing => Ok(()),
                Told::Ack(ack_id) => {
                    acks.push(Item { place, number, ack_id });
                    Ok(())
                }
                Told::Nack(ack_id) => {
                    nacks.push(Item { place, number, ack_id });
                    Ok(())
                }
            });
        }
        (acks, nacks, results)
    }

    /// Ends the stream and gives back what is held. One that is cut short may be begun again.
    async fn end(&self) {
        let mut reader = self.reader.lock().await;
        let quiet = async {
            reader.join_next().await;
            self.acknowledged().await;
        };
        if tokio::time::timeout(GOODBYE, quiet).await.is_err() {
            reader.abort_all();
        }
        let ours = self.inbox.held().ours(Instant::now());
        self.inbox.give_back(ours).await;
        self.inbox.held().clear();
    }

    /// Waits until no acknowledgement is under way: one that gets there after a lease is given up does not hold.
    async fn acknowledged(&self) {
        while self.inbox.held().is_acking() {
            // Only the reader waits for this as well, and it has ended.
            self.inbox.settled.notified().await;
        }
    }

    fn lease_lost(&self) -> Error {
        self.located(Error::new(ErrorKind::LeaseLost, "the delivery is not this consumer's any more"))
    }

    fn located(&self, error: Error) -> Error {
        error.with_context("destination", &self.inbox.destination).with_context("group", &self.group)
    }
}

#[async_trait]
impl Consumer for PubSubConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        self.check_open()?;
        let deadline = tokio::time::Instant::now() + wait;
        let mut closing = self.inbox.link.closing();
        loop {
            let taken = self.inbox.held().take(max, self.inbox.bound, Instant::now());
            if !taken.is_empty() || max == 0 {
                return Ok(taken);
            }
            if let Some(error) = self.inbox.failure().take() {
                return Err(self.located(as_told(error)));
            }
            tokio::select! {
                biased;
                () = self.inbox.stopped() => return Err(Error::closed("the consumer")),
                _ = closing.wait_for(|closing| *closing) => return Err(Error::closed("the consumer")),
                () = self.inbox.arrived.notified() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Vec::new()),
            }
        }
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>> {
        if let Err(error) = self.check_open() {
            return batch.iter().map(|_| Err(error.replicate())).collect();
        }
        let (acks, nacks, mut results) = self.sort(&batch);
        let mut under_way = Acking { inbox: &self.inbox, batch: &batch };
        self.inbox.look_again();
        let (acked, nacked) = tokio::join!(self.tell(Order::Ack, acks), self.tell(Order::Lease(0), nacks));
        {
            let mut held = self.inbox.held();
            for (item, result) in &acked {
                match result {
                    Ok(()) => held.acked(item.number),
                    Err(error) if error.kind() == ErrorKind::LeaseLost => held.lose(item.number),
                    Err(_) => held.doubt(item.number),
                }
            }
        }
        // Each has its answer.
        under_way.batch = &[];
        self.inbox.look_again();
        for (item, result) in acked.into_iter().chain(nacked) {
            results[item.place] = result;
        }
        results
    }

    async fn extend(&self) -> Result<()> {
        self.check_open()?;
        let now = Instant::now();
        let leased = self.inbox.held().leased(now);
        let items = leased.into_iter().map(|(number, ack_id)| Item { place: 0, number, ack_id }).collect();
        let told = self.tell(Order::Lease(self.inbox.lease_seconds()), items).await;
        let mut held = self.inbox.held();
        let mut failed = None;
        for (item, result) in told {
            match result {
                Ok(()) => held.extended([item.number], now),
                Err(error) if error.kind() == ErrorKind::LeaseLost => held.lose(item.number),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn close(&self) -> Result<()> {
        self.inbox.stopping.send_replace(true);
        self.ended.get_or_init(|| self.end()).await;
        Ok(())
    }
}
