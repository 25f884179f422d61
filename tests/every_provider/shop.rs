//! A day of the shop: orders are published by many at once, billed by one group and audited by another; billing
//! goes home in the middle and comes back; what could not be billed is looked at and tried again.

use crate::order::{ATTEMPTS, CUSTOMERS, LATER, ORDERS, Order, all};
use ductape::capability::{Attempts, Groups};
use ductape::client::{LetterFilter, NewMessage};
use ductape::worker::{Outcome, Subscription};
use ductape::{Delivery, Ductape, Message, RetryPolicy, Subscribe};
use ductape_tests::{DEADLINE, Record, Service};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What is the same on every provider.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Day {
    /// Orders by customer, as billing first saw them; of those without a key, sorted.
    seen: BTreeMap<u32, Vec<u32>>,
    /// Orders by customer, as they were first billed; of those without a key, sorted.
    billed: BTreeMap<u32, Vec<u32>>,
    /// Orders that the audit had.
    audited: BTreeSet<Order>,
    /// How often the audit had an order in all.
    audits: usize,
    /// Order, key, attempts and reason of each dead letter.
    letters: BTreeSet<(Order, Option<String>, u32, String)>,
    /// Orders billed once their dead letters were redriven.
    redriven: BTreeSet<Order>,
    /// Messages that a group had still to settle in the evening, and dead letters.
    left: (Vec<u64>, u64),
}

impl Day {
    /// Sorts what is told in its order.
    pub(crate) fn forget_order(&mut self) {
        self.seen.values_mut().chain(self.billed.values_mut()).for_each(|orders| orders.sort_unstable());
    }
}

/// Whether there is an audit beside billing: a provider may have one group only, and says so.
pub(crate) async fn has_audit(service: &Service) -> bool {
    service.ductape.capabilities(&service.event, None).await.unwrap().groups != Groups::One
}

pub(crate) fn expected(is_audited: bool) -> Day {
    let by_customer = |wanted: fn(&Order) -> bool| {
        let mut orders: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        all().filter(wanted).for_each(|order| orders.entry(order.customer).or_default().push(order.number));
        orders
    };
    let letter = |order: Order| {
        let (attempts, reason) = order.dead_letter()?;
        Some((order.clone(), order.key(), attempts, reason.to_owned()))
    };
    Day {
        seen: by_customer(|_| true),
        billed: by_customer(Order::is_billed),
        audited: all().filter(|_| is_audited).collect(),
        audits: all().filter(|_| is_audited).count(),
        letters: all().filter_map(letter).collect(),
        redriven: all().filter(|order| order.dead_letter().is_some()).collect(),
        left: (vec![0; if is_audited { 2 } else { 1 }], 0),
    }
}

/// One attempt at an order.
#[derive(Clone, Debug)]
struct Attempt {
    order: Order,
    /// As the delivery counts it.
    attempt: u32,
    begun: Instant,
    billed: bool,
}

pub(crate) async fn day(service: Service, is_audited: bool) -> Day {
    let Service { ductape, event, .. } = &service;
    let (bills, audits) = (Arc::<Record<Attempt>>::default(), Arc::<Record<Order>>::default());
    let colleague = service.another().await;
    let mut auditing = Vec::new();
    for client in [ductape, &colleague].into_iter().filter(|_| is_audited) {
        auditing.push(audit(client, event, &audits).await);
    }
    let billing = bill(ductape, event, &bills).await;
    publish(ductape, event, 1..=ORDERS / 2).await;
    bills.until("a part of the orders is billed", |bills| billed(bills).count() > 30).await;
    billing.stop().await.unwrap();

    publish(&colleague, event, ORDERS / 2 + 1..=ORDERS).await;
    let billing = bill(&colleague, event, &bills).await;
    let all_billed = all().filter(Order::is_billed).count();
    bills.until("all orders are billed", |bills| distinct(billed(bills)) == all_billed).await;
    bills.until("all orders are seen", |bills| distinct(bills.iter()) == all().count()).await;
    let overcounts = ductape.capabilities(event, None).await.unwrap().attempts == Attempts::Overcounted;
    bills.until("what fails always has had its attempts", |bills| exhausted(bills, overcounts)).await;
    audits.until("all orders are audited", |audits| !is_audited || audits.len() >= all().count()).await;
    // A stop lets the last attempts and dead letters end.
    billing.stop().await.unwrap();
    put_off_long_enough(&bills.all());

    let letters = ductape.broker().dead_letters(event, None).await.unwrap();
    let listed = letters.list(1000).await.unwrap();
    let redriven = letters.redrive(LetterFilter::All).await.unwrap();
    assert_eq!((redriven.taken, redriven.left), (listed.len() as u64, 0));
    let second = Arc::<Record<Order>>::default();
    let billing = audit_as(ductape, Subscribe::new(event), &second).await;
    second.until("all that was redriven is billed", |orders| orders.len() >= listed.len()).await;
    billing.stop().await.unwrap();
    for member in auditing {
        member.stop().await.unwrap();
    }
    Day {
        seen: first_seen(bills.all().iter()),
        billed: first_seen(billed(&bills.all())),
        audited: audits.all().into_iter().collect(),
        audits: audits.all().len(),
        letters: listed.iter().map(letter).collect(),
        redriven: second.all().into_iter().collect(),
        left: left(ductape, event).await,
    }
}

/// Publishes these numbers of every customer's orders, all customers at once: half of them a message at a time, half
/// in batches.
async fn publish(ductape: &Ductape, event: &str, numbers: RangeInclusive<u32>) {
    let publisher = ductape.broker().publisher(event, None).await.unwrap();
    let mut publishing = JoinSet::new();
    for customer in 0..CUSTOMERS {
        let (publisher, numbers) = (publisher.clone(), numbers.clone());
        publishing.spawn(async move {
            let orders = numbers.map(|number| message(&Order { customer, number }));
            if customer % 2 == 0 {
                let receipts = publisher.publish_batch(orders).await;
                receipts.into_iter().for_each(|receipt| drop(receipt.unwrap()));
            } else {
                for order in orders {
                    publisher.publish(order).await.unwrap();
                }
            }
        });
    }
    publishing.join_all().await;
}

fn message(order: &Order) -> NewMessage {
    let message = NewMessage::json(order).unwrap().header("till", "\u{20ac} 1");
    match order.key() {
        Some(key) => message.key(key),
        None => message,
    }
}

async fn bill(ductape: &Ductape, event: &str, bills: &Arc<Record<Attempt>>) -> Subscription {
    let retry =
        RetryPolicy { attempts: ATTEMPTS, initial: Duration::from_millis(20), ..RetryPolicy::default() };
    let subscribe = Subscribe::new(event).concurrency(4).max_in_flight(64).retry(retry);
    let bills = Arc::clone(bills);
    let handler = move |order: Order, delivery: Delivery| {
        let bills = Arc::clone(&bills);
        async move { bill_one(order, &delivery, &bills).await }
    };
    ductape.broker().subscribe(subscribe, handler).await.unwrap()
}

async fn bill_one(order: Order, delivery: &Delivery, bills: &Record<Attempt>) -> Outcome {
    let begun = Instant::now();
    assert_eq!(delivery.message.headers.get("till").unwrap().as_str(), Some("\u{20ac} 1"));
    // Others get their turn meanwhile, so that handlers overlap.
    tokio::task::yield_now().await;
    let is_first = bills.all().iter().all(|attempt| attempt.order != order);
    // A panic is an attempt too.
    let outcome = std::panic::catch_unwind(|| order.bill(delivery.attempt, is_first));
    let billed = matches!(outcome, Ok(Ok(())));
    bills.push(Attempt { order, attempt: delivery.attempt, begun, billed });
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn audit(ductape: &Ductape, event: &str, audits: &Arc<Record<Order>>) -> Subscription {
    audit_as(ductape, Subscribe::new(event).group("audit"), audits).await
}

/// Only writes down what it gets.
async fn audit_as(ductape: &Ductape, subscribe: Subscribe, orders: &Arc<Record<Order>>) -> Subscription {
    let orders = Arc::clone(orders);
    let handler = move |order: Order| {
        orders.push(order);
        async {}
    };
    ductape.broker().subscribe(subscribe, handler).await.unwrap()
}

fn billed(bills: &[Attempt]) -> impl Iterator<Item = &Attempt> {
    bills.iter().filter(|attempt| attempt.billed)
}

fn distinct<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> usize {
    attempts.map(|attempt| &attempt.order).collect::<BTreeSet<_>>().len()
}

/// Where a provider counts too many attempts, those before the first that billing saw are of what it gave back untried
/// when it went home.
fn exhausted(bills: &[Attempt], overcounts: bool) -> bool {
    let declined: Vec<_> = bills.iter().filter(|attempt| attempt.order.number == 19).collect();
    let mut seen = BTreeSet::new();
    let first = declined.iter().filter(|attempt| seen.insert(&attempt.order));
    let untried: u32 = first.map(|attempt| attempt.attempt - 1).sum();
    let made = declined.len() + if overcounts { untried as usize } else { 0 };
    made >= (CUSTOMERS * ATTEMPTS) as usize
}

/// Numbers by customer in the order of their first attempt here. Without a key there is no order to keep.
fn first_seen<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> BTreeMap<u32, Vec<u32>> {
    let mut by_customer: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for Attempt { order, .. } in attempts {
        let numbers = by_customer.entry(order.customer).or_default();
        if !numbers.contains(&order.number) {
            numbers.push(order.number);
        }
    }
    by_customer.get_mut(&0).unwrap().sort_unstable();
    by_customer
}

/// A delay that a handler asks for is a floor.
fn put_off_long_enough(bills: &[Attempt]) {
    for customer in 0..CUSTOMERS {
        let order = Order { customer, number: 13 };
        let begun: Vec<_> = bills.iter().filter(|attempt| attempt.order == order).map(|a| a.begun).collect();
        assert!(begun.len() >= 2, "{order:?} was put off once and then billed: {begun:?}");
        let waited = begun[1] - begun[0];
        assert!(waited >= LATER, "{order:?} was put off by {LATER:?} and came after {waited:?}");
    }
}

/// More attempts than were made are as many: a provider may count what billing gave back untried when it went home.
fn letter(letter: &Message) -> (Order, Option<String>, u32, String) {
    let order: Order = serde_json::from_slice(&letter.payload).unwrap();
    let dead = letter.dead_letter().unwrap();
    let key = letter.key.as_ref().map(|key| key.as_str().unwrap().to_owned());
    let made = order.dead_letter().map_or(0, |(attempts, _)| attempts);
    (order, key, dead.attempts.min(made), dead.reason.to_string())
}

/// What is left in the evening. A provider may count late, so it gets some time to come to nothing; one that cannot tell
/// a group's lag counts as nothing left.
async fn left(ductape: &Ductape, event: &str) -> (Vec<u64>, u64) {
    let letters = ductape.broker().dead_letters(event, None).await.unwrap();
    let begun = Instant::now();
    loop {
        let seen = ductape.inspect(event, None).await.unwrap();
        let lags: Vec<_> = seen.destination.groups.iter().map(|group| group.lag.unwrap_or(0)).collect();
        let dead = letters.list(1000).await.unwrap().len() as u64;
        if lags.iter().sum::<u64>() + dead == 0 || begun.elapsed() > DEADLINE {
            return (lags, dead);
        }
        tokio::task::yield_now().await;
    }
}
