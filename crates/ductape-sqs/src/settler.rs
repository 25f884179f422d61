//! Telling SQS of verdicts: deletes and changes of visibility, ten a request.
//!
//! A request leaves when it is full. One of deletes that is not waits for more, since the worker's next verdicts are
//! close behind: for 2 ms where no request is under way, else for 50 ms; not at all where nothing is in hand that
//! could still be acknowledged.

use crate::answer::Ticket;
use crate::consumer::{Shared, seconds};
use crate::error;
use crate::hand::Held;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry as Change,
    DeleteMessageBatchRequestEntry as Delete,
};
use ductape_core::{Error, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The most entries of a request.
pub(crate) const MAX_ENTRIES: usize = 10;
/// Requests under way at once.
const IN_FLIGHT: usize = 16;
const LINGER: Duration = Duration::from_millis(50);
const IDLE_LINGER: Duration = Duration::from_millis(2);

/// What SQS is told about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Say {
    /// It is done.
    Delete,
    /// It is to come again, not before so long from now.
    Hide(Duration),
}

/// Why SQS is told, by which the hand counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was settled.
    Verdict,
    /// It goes back unsettled.
    Release,
    /// It is no more in hand; a delay is told again.
    Again,
}

/// One message, what is said about it, and who waits for that.
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) held: Held,
    pub(crate) say: Say,
    pub(crate) cause: Cause,
    pub(crate) ticket: Option<Ticket<()>>,
}

struct Settler {
    shared: Arc<Shared>,
    deletes: VecDeque<Order>,
    changes: VecDeque<Order>,
    requests: JoinSet<()>,
    /// Since when the first delete waits.
    since: Option<Instant>,
    /// How many deletes make a request that leaves at once.
    full: usize,
}

/// Works until nobody is left who could give an order.
pub(crate) async fn run(shared: Arc<Shared>, mut orders: mpsc::UnboundedReceiver<Order>) {
    // A consumer whose bound is small would wait for acknowledgements that cannot come.
    let full = (shared.bound / 2).clamp(1, MAX_ENTRIES);
    let (deletes, changes, requests) = (VecDeque::new(), VecDeque::new(), JoinSet::new());
    let mut settler = Settler { shared, deletes, changes, requests, since: None, full };
    let mut open = true;
    while open || !settler.is_idle() {
        while let Ok(order) = orders.try_recv() {
            settler.add(order);
        }
        settler.dispatch();
        let due = settler.due();
        tokio::select! {
            order = orders.recv(), if open => match order {
                Some(order) => settler.add(order),
                None => open = false,
            },
            Some(_) = settler.requests.join_next(), if !settler.requests.is_empty() => {}
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            // The last request ended while orders were sorted.
            else => {}
        }
    }
}

impl Settler {
    fn is_idle(&self) -> bool {
        self.deletes.is_empty() && self.changes.is_empty() && self.requests.is_empty()
    }

    fn add(&mut self, order: Order) {
        match order.say {
            Say::Delete => {
                self.since.get_or_insert_with(Instant::now);
                self.deletes.push_back(order);
            }
            Say::Hide(_) => self.changes.push_back(order),
        }
    }

    /// When the deletes that wait leave, whatever comes until then.
    fn due(&self) -> Option<Instant> {
        let linger = if self.requests.is_empty() { IDLE_LINGER } else { LINGER };
        let waits = self.requests.len() < IN_FLIGHT;
        self.since.filter(|_| waits).map(|since| since + linger)
    }

    fn dispatch(&mut self) {
        while self.requests.try_join_next().is_some() {}
        while self.requests.len() < IN_FLIGHT && !self.changes.is_empty() {
            let ten = ten(&mut self.changes);
            self.requests.spawn(change(Arc::clone(&self.shared), ten));
        }
        while self.requests.len() < IN_FLIGHT && self.deletes_may_leave() {
            let ten = ten(&mut self.deletes);
            self.requests.spawn(delete(Arc::clone(&self.shared), ten));
            self.since = (!self.deletes.is_empty()).then(Instant::now);
        }
    }

    fn deletes_may_leave(&self) -> bool {
        let waited = || self.due().is_some_and(|due| Instant::now() >= due);
        let alone = || self.shared.is_closed() || self.shared.hand().is_empty();
        !self.deletes.is_empty() && (self.deletes.len() >= self.full || waited() || alone())
    }
}

fn ten(orders: &mut VecDeque<Order>) -> Vec<Order> {
    orders.drain(..orders.len().min(MAX_ENTRIES)).collect()
}

async fn delete(shared: Arc<Shared>, orders: Vec<Order>) {
    const WHAT: &str = "the delete of what is acknowledged";
    let entry = |(id, order): (usize, &Order)| {
        Delete::builder().id(id.to_string()).receipt_handle(&*order.held.receipt).build().ok()
    };
    let entries = orders.iter().enumerate().filter_map(entry).collect();
    let request = shared.link.client.delete_message_batch().queue_url(&*shared.url);
    let told = shared.link.within(WHAT, false, request.set_entries(Some(entries)).send()).await;
    let told = told.map(|output| {
        (output.successful.into_iter().map(|entry| entry.id).collect::<Vec<_>>(), output.failed)
    });
    conclude(&shared, orders, told, WHAT);
}

async fn change(shared: Arc<Shared>, orders: Vec<Order>) {
    const WHAT: &str = "the return of what is to come again";
    let now = Instant::now();
    let entry = |(id, order): (usize, &Order)| {
        let Say::Hide(delay) = order.say else { return None };
        let hidden = seconds(delay).min(whole_seconds(order.held.longest(now)));
        let change = Change::builder().id(id.to_string()).receipt_handle(&*order.held.receipt);
        change.visibility_timeout(hidden).build().ok()
    };
    let entries = orders.iter().enumerate().filter_map(entry).collect();
    let request = shared.link.client.change_message_visibility_batch().queue_url(&*shared.url);
    let told = shared.link.within(WHAT, false, request.set_entries(Some(entries)).send()).await;
    let told = told.map(|output| {
        (output.successful.into_iter().map(|entry| entry.id).collect::<Vec<_>>(), output.failed)
    });
    conclude(&shared, orders, told, WHAT);
}

/// The longest time in seconds that is still allowed, so rounded down.
fn whole_seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}

type Told = Result<(Vec<String>, Vec<BatchResultErrorEntry>)>;

/// Tells each order its result, and makes room, or keeps what may be tried again.
fn conclude(shared: &Shared, orders: Vec<Order>, told: Told, what: &str) {
    let mut results: Vec<Result<()>> = match told {
        Ok((done, failed)) => {
            let mut results: Vec<_> = orders.iter().map(|_| Err(error::no_result(what, false))).collect();
            let mut set = |id: &str, result| {
                if let Some(place) = id.parse::<usize>().ok().and_then(|id| results.get_mut(id)) {
                    *place = result;
                }
            };
            done.iter().for_each(|id| set(id, Ok(())));
            failed.iter().for_each(|entry| set(&entry.id, Err(error::entry(entry, what, false))));
            results
        }
        Err(error) => orders.iter().map(|_| Err(error.replicate())).collect(),
    };
    for (order, result) in orders.into_iter().zip(results.drain(..)) {
        order.conclude(shared, result);
    }
    shared.changed.notify_one();
}

impl Order {
    fn conclude(self, shared: &Shared, result: Result<()>) {
        let Order { number, held, cause, ticket, .. } = self;
        let may_be_told_again = !shared.is_closed() && result.as_ref().is_err_and(Error::is_retryable);
        let result = result.map_err(|error| shared.located(error));
        let others = match cause {
            Cause::Verdict if may_be_told_again => shared.hand().keep(number, held),
            Cause::Verdict => shared.hand().settled(number, result.is_ok()),
            Cause::Release => {
                shared.hand().released();
                Vec::new()
            }
            Cause::Again => Vec::new(),
        };
        for other in others {
            other.answer(result.as_ref().copied().map_err(Error::replicate));
        }
        match ticket {
            Some(ticket) => ticket.answer(result),
            None => drop(result.inspect_err(|error| tracing::debug!(%error, "it comes again by its lease"))),
        }
    }
}
