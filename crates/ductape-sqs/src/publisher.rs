//! Publishing: concurrent calls are put together into full requests, of which many are under way.
//!
//! ```text
//!  publish ─▶ queue of calls ─▶ one task: outbox ─▶ up to 16 requests of up to ten ─▶ one result a message
//! ```
//!
//! A request leaves when it is full; one that is not waits until nothing else is under way, or for 20 ms. So a lone
//! publish leaves at once, and many share requests.

use crate::answer::{self, Ticket};
use crate::link::Link;
use crate::message::{self, Outgoing};
use crate::outbox::{Batch, Outbox, Waiting};
use crate::queue::is_fifo;
use crate::target::Target;
use async_trait::async_trait;
use ductape_core::turns::Turns;
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

/// Publishes to one queue.
pub(crate) struct SqsPublisher {
    link: Arc<Link>,
    fifo: bool,
    /// The order of calls that wait for a place in the queue.
    turns: Turns,
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
            self.queue(prepared).await;
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
        SqsPublisher { link, fifo: is_fifo(&destination.name), turns: Turns::default(), calls }
    }

    /// Puts a call into the queue behind those that came before it, where there is room or once there is.
    async fn queue(&self, call: Vec<Waiting>) {
        let mut call = Some(call);
        let at_once = || self.calls.try_reserve().ok().map(|room| call.take().map(|call| room.send(call)));
        if let Err(place) = self.turns.at_once(at_once) {
            let _turn = place.turn().await;
            // Gone only with the runtime; then the tickets say so.
            let _ = self.calls.send(call.unwrap_or_default()).await;
        }
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
    let results = if fifo { target.send_until_known(entries).await } else { target.send_once(entries).await };
    for (ticket, result) in tickets.into_iter().zip(results) {
        ticket.answer(result.map_err(|error| target.located(error)));
    }
}

#[cfg(test)]
mod tests;
