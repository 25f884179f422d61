//! Publishing: messages move into the log, and wait for room where a bound is reached.
//!
//! ```text
//! publish ─▶ nobody waits and there is room? ─ yes ─▶ appended, one lock for the batch
//!                     │ no: queued in the same lock
//!                     ▼
//!            the turn (FIFO) ─▶ room told ─▶ as many as fit … until all are taken, or the deadline passes
//! ```
//!
//! A publish is queued in its first poll, in the lock under which it found no room, and later ones see the queue
//! and go behind it: so overlapping calls keep their order.

use crate::broker::Connection;
use crate::error;
use crate::store::{Place, State, pass};
use async_trait::async_trait;
use ductape_core::{Error, Message, Position, Publisher, Result};
use std::sync::Arc;
use std::vec::IntoIter;
use tokio::task::coop::consume_budget;

/// Publishes to one destination.
pub(crate) struct MemoryPublisher {
    connection: Arc<Connection>,
    place: Arc<Place>,
}

/// A batch on its way: what is not decided yet, and what is.
struct Batch {
    rest: IntoIter<Message>,
    results: Vec<Result<Position>>,
}

#[async_trait]
impl Publisher for MemoryPublisher {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        let mut batch = Batch { results: Vec::with_capacity(batch.len()), rest: batch.into_iter() };
        if self.connection.is_closed() {
            batch.refuse(|| error::closed("the publisher", &self.place.name));
        } else if let Some(queued) = self.append_or_queue(&mut batch) {
            self.append_in_turn(&mut batch, queued).await;
        }
        // Who publishes in a loop still lets other tasks run. Only now, since the first poll decides the order.
        consume_budget().await;
        batch.results
    }
}

impl MemoryPublisher {
    pub(crate) fn new(connection: Arc<Connection>, place: Arc<Place>) -> Self {
        MemoryPublisher { connection, place }
    }

    /// Appends what fits. If something is left, it is queued before anybody else can append.
    fn append_or_queue(&self, batch: &mut Batch) -> Option<Queued<'_>> {
        let mut state = self.place.lock();
        let full = state.publishers_waiting > 0 || !batch.append_to(&mut state, &self.place.name);
        let queued = full.then(|| {
            state.publishers_waiting += 1;
            Queued(&self.place)
        });
        drop(state);
        self.place.arrived.notify_waiters();
        queued
    }

    /// Waits for its turn and for room until all is appended, the connection closes, or patience ends.
    async fn append_in_turn(&self, batch: &mut Batch, queued: Queued<'_>) {
        let appended = tokio::select! {
            biased;
            () = self.append_with_turn(batch) => true,
            () = self.connection.closed() => false,
            () = pass(&self.connection.clock, self.connection.patience) => false,
        };
        if !appended {
            match self.connection.is_closed() {
                true => batch.refuse(|| error::closed("the publisher", &self.place.name)),
                false => batch.refuse(|| self.full()),
            }
        }
        drop(queued);
    }

    async fn append_with_turn(&self, batch: &mut Batch) {
        let _turn = self.place.turn.lock().await;
        loop {
            let all = batch.append_to(&mut self.place.lock(), &self.place.name);
            self.place.arrived.notify_waiters();
            if all {
                return;
            }
            self.place.room.notified().await;
        }
    }

    #[cold]
    fn full(&self) -> Error {
        let state = self.place.lock();
        let slowest = state.groups.iter().map(|group| (&*group.name, group.lag(&state.log)));
        error::full(&self.place.name, state.log.limits(), slowest.max_by_key(|(_, lag)| *lag))
    }
}

/// A publish that is counted among those that wait, until it ends in whatever way.
struct Queued<'a>(&'a Place);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.lock().publishers_waiting -= 1;
    }
}

impl Batch {
    /// Appends messages until one has no room; true if none is left. One that could never fit is refused.
    fn append_to(&mut self, state: &mut State, destination: &str) -> bool {
        let groups = u32::try_from(state.groups.len()).unwrap_or(u32::MAX);
        loop {
            let taken = state.log.append(&mut self.rest, groups);
            self.results.extend(taken.map(|number| Ok(Position::Sequence(number))));
            let limit = state.log.limits().max_bytes;
            match self.rest.as_slice().first().map(Message::size) {
                None => return true,
                Some(size) if size <= limit => return false,
                Some(size) => self.results.push(Err(error::too_large(destination, size, limit))),
            }
            self.rest.next();
        }
    }

    /// Ends everything undecided with this error.
    fn refuse(&mut self, error: impl Fn() -> Error) {
        self.results.extend(self.rest.by_ref().map(|_| Err(error())));
    }
}
