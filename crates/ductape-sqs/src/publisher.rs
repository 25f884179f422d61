//! Publishing: concurrent calls are put together into full requests, of which many are under way.
//!
//! ```text
//!  publish ─▶ queue of calls ─▶ one task: outbox ─▶ up to 16 requests of up to ten ─▶ one result a message
//! ```
//!
//! A request leaves when it is full; one that is not waits until nothing else is under way, or for 20 ms. So a lone
//! publish leaves at once, and many share requests.

use crate::answer::{self, Ticket};
use crate::error;
use crate::link::Link;
use crate::message::{self, Outgoing};
use crate::outbox::{Batch, Outbox, Waiting};
use crate::queue::is_fifo;
use async_trait::async_trait;
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchOutput;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry as Entry;
use ductape_core::{Destination, Error, Message, Position, Publisher, Result};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

/// Requests under way at once.
const IN_FLIGHT: usize = 16;
/// Messages that wait in the outbox before no more calls are taken from the queue.
const MAX_WAITING: usize = 1024;
/// Calls that wait in the queue; past them publish waits.
const MAX_CALLS: usize = 256;
/// How long a request that is not full waits for more while others are under way.
const LINGER: Duration = Duration::from_millis(20);
/// How long after a send without answer a FIFO queue is asked again; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
const WHAT: &str = "the publish";

/// Publishes to one queue.
pub(crate) struct SqsPublisher {
    link: Arc<Link>,
    fifo: bool,
    calls: mpsc::Sender<Vec<Waiting>>,
}

#[async_trait]
impl Publisher for SqsPublisher {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        if self.link.check_open("the publisher").is_err() {
            return batch.iter().map(|_| Err(Error::closed("the publisher"))).collect();
        }
        let (tickets, answer) = answer::call(batch.len());
        let prepared =
            batch.iter().zip(tickets).filter_map(|(message, ticket)| self.prepare(message, ticket));
        let prepared: Vec<_> = prepared.collect();
        if !prepared.is_empty() {
            // Gone only with the runtime; then the tickets say so.
            let _ = self.calls.send(prepared).await;
        }
        answer.wait().await
    }
}

impl SqsPublisher {
    /// Starts the task that sends. It ends when the publisher is dropped and what it was given is answered.
    pub(crate) fn start(link: Arc<Link>, destination: &Destination, url: Arc<str>) -> Self {
        let (calls, queue) = mpsc::channel(MAX_CALLS);
        let target = Target { link: Arc::clone(&link), queue: Arc::clone(&destination.name), url };
        tokio::spawn(Dispatcher::new(target).run(queue));
        SqsPublisher { link, fifo: is_fifo(&destination.name), calls }
    }

    fn prepare(&self, message: &Message, ticket: Ticket<Position>) -> Option<Waiting> {
        match message::write(message, self.fifo) {
            Ok(message) => Some(Waiting { message, ticket }),
            Err(error) => {
                ticket.answer(Err(error));
                None
            }
        }
    }
}

/// Where requests go.
#[derive(Clone)]
struct Target {
    link: Arc<Link>,
    queue: Arc<str>,
    url: Arc<str>,
}

struct Dispatcher {
    target: Target,
    outbox: Outbox,
    requests: JoinSet<()>,
    /// The message groups of each request under way.
    groups: HashMap<Id, Vec<Arc<str>>>,
    /// Since when something waits that does not fill a request.
    since: Option<Instant>,
}

impl Dispatcher {
    fn new(target: Target) -> Self {
        let (requests, groups) = (JoinSet::new(), HashMap::new());
        Dispatcher { target, outbox: Outbox::default(), requests, groups, since: None }
    }

    async fn run(mut self, mut calls: mpsc::Receiver<Vec<Waiting>>) {
        let mut open = true;
        while open || self.outbox.len() > 0 || !self.requests.is_empty() {
            self.collect(&mut calls);
            if self.outbox.has_any() && !self.outbox.has_full() && self.requests.is_empty() {
                // Whoever is about to publish gets the chance to share the request.
                tokio::task::yield_now().await;
                self.collect(&mut calls);
            }
            self.dispatch();
            let room = open && self.outbox.len() < MAX_WAITING;
            let due = self.since.map_or_else(Instant::now, |since| since + LINGER);
            let waits = self.since.is_some() && self.requests.len() < IN_FLIGHT;
            tokio::select! {
                call = calls.recv(), if room => match call {
                    Some(call) => self.push(call),
                    None => open = false,
                },
                Some(ended) = self.requests.join_next_with_id(), if !self.requests.is_empty() => {
                    self.ended(ended.map_or_else(|panicked| panicked.id(), |(id, ())| id));
                }
                () = tokio::time::sleep_until(due), if waits => {}
                // The last request ended while calls were collected.
                else => {}
            }
        }
    }

    /// Takes the calls that wait, as far as there is room.
    fn collect(&mut self, calls: &mut mpsc::Receiver<Vec<Waiting>>) {
        while let Some(id) = self.requests.try_join_next_with_id() {
            self.ended(id.map_or_else(|panicked| panicked.id(), |(id, ())| id));
        }
        while self.outbox.len() < MAX_WAITING
            && let Ok(call) = calls.try_recv()
        {
            self.push(call);
        }
    }

    fn push(&mut self, call: Vec<Waiting>) {
        call.into_iter().for_each(|waiting| self.outbox.push(waiting));
    }

    fn ended(&mut self, id: Id) {
        if let Some(groups) = self.groups.remove(&id) {
            self.outbox.done(groups);
        }
    }

    /// Sends what may leave now.
    fn dispatch(&mut self) {
        while self.requests.len() < IN_FLIGHT && self.outbox.has_any() {
            let waited = self.since.is_some_and(|since| since.elapsed() >= LINGER);
            if !self.outbox.has_full() && !self.requests.is_empty() && !waited {
                break;
            }
            let Some(Batch { messages, groups }) = self.outbox.take() else { break };
            let request = self.requests.spawn(send(self.target.clone(), messages));
            if !groups.is_empty() {
                self.groups.insert(request.id(), groups);
            }
            self.since = None;
        }
        self.since = match self.outbox.has_any() {
            true => self.since.or_else(|| Some(Instant::now())),
            false => None,
        };
    }
}

/// Sends one request and answers for each of its messages.
async fn send(target: Target, messages: Vec<Waiting>) {
    let mut entries = Vec::with_capacity(messages.len());
    let mut tickets = Vec::with_capacity(messages.len());
    let fifo = messages.iter().any(|waiting| waiting.message.group.is_some());
    for (id, Waiting { message, ticket }) in messages.into_iter().enumerate() {
        tickets.push(ticket);
        entries.extend(Outgoing::entry(message, id));
    }
    let sent = if fifo { target.send_until_known(entries).await } else { target.send(entries).await };
    match sent {
        Ok(output) => distribute(output, tickets, &target),
        Err(error) => {
            let others = error.replicate();
            let mut first = Some(error);
            for ticket in tickets {
                ticket.answer(Err(target.located(first.take().unwrap_or_else(|| others.replicate()))));
            }
        }
    }
}

impl Target {
    async fn send(&self, entries: Vec<Entry>) -> Result<SendMessageBatchOutput> {
        let request = self.link.client.send_message_batch().queue_url(&*self.url).set_entries(Some(entries));
        self.link.within(WHAT, true, request.send()).await
    }

    /// Sends until it is known whether it was taken, or time is over. A FIFO queue knows what it has, so sending it
    /// again is safe; the message groups of these entries wait meanwhile.
    async fn send_until_known(&self, entries: Vec<Entry>) -> Result<SendMessageBatchOutput> {
        let deadline = Instant::now() + self.link.limit;
        let (mut pause, mut uncertain): (Duration, Option<Error>) = (PAUSE, None);
        loop {
            // An answer that is lost must leave time to ask again.
            let late = deadline.min(Instant::now() + self.link.limit / 3);
            let error = match tokio::time::timeout_at(late, self.send(entries.clone())).await {
                Ok(Ok(output)) => return Ok(output),
                Ok(Err(error)) => error,
                Err(_) => error::timeout(WHAT, true),
            };
            let unknown = error.is_uncertain() || uncertain.is_some() && error.is_retryable();
            if !unknown {
                return Err(error);
            }
            let error = uncertain.take().unwrap_or(error);
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            uncertain = Some(error);
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    fn located(&self, error: Error) -> Error {
        error.with_context("destination", &self.queue)
    }
}

/// Tells each message its own result.
fn distribute(output: SendMessageBatchOutput, tickets: Vec<Ticket<Position>>, target: &Target) {
    let mut tickets: Vec<_> = tickets.into_iter().map(Some).collect();
    let mut take = |id: &str| id.parse::<usize>().ok().and_then(|id| tickets.get_mut(id)?.take());
    for taken in output.successful {
        if let Some(ticket) = take(&taken.id) {
            ticket.answer(Ok(Position::Text(taken.message_id.into())));
        }
    }
    for failed in output.failed {
        if let Some(ticket) = take(&failed.id) {
            ticket.answer(Err(target.located(error::entry(&failed, WHAT, true))));
        }
    }
    for ticket in tickets.into_iter().flatten() {
        ticket.answer(Err(target.located(error::no_result(WHAT, true))));
    }
}
