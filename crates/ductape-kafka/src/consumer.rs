//! Consuming: a member of a group, with a thread that keeps its membership.
//!
//! ```text
//!  librdkafka ─▶ a queue a partition ─────────▶ receive ─▶ ledger ─▶ handlers
//!      │                                                     ▲           │
//!      ├──────▶ events: rebalance ─▶ member thread ──────────┤           │
//!      └◀────── commits: a mark a partition ◀─ committer ◀────┴───────────┘ settle
//! ```
//!
//! - Messages go from the client library's queues to whoever receives, without another thread between. At the bound
//!   nothing is taken from the queues: they fill up, and the client library stops fetching. Nothing has to be paused,
//!   and nothing that was fetched is thrown away.
//! - Events have a queue of their own, which the member's thread serves whatever handlers do, so that slow handlers
//!   never cost the membership (`member`).
//! - The ledger knows what is open, and how far each partition is settled (`ledger`).
//! - One commit is under way at a time; what is settled meanwhile goes with the next (`commits`, `committer`).

use crate::commits::Outcome;
use crate::error;
use crate::fetched::{FetchQueue, Fetched};
use crate::ledger::{self, Ledger};
use crate::link::{Link, lock};
use crate::member::Bell;
use crate::message::RecordReader;
use async_trait::async_trait;
use ductape_core::error::Retry;
use ductape_core::message::BatchAttributes;
use ductape_core::{
    Consumer, Delivery, Destination, Error, ErrorKind, Position, Result, Settlement, Verdict,
};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// A member of a group, in the hands of core.
pub(crate) struct KafkaConsumer(pub(crate) Arc<Handle>);

/// What a member's thread shares with those who receive and settle.
pub(crate) struct Handle {
    pub(crate) destination: Destination,
    pub(crate) group: Arc<str>,
    pub(crate) max_in_flight: usize,
    /// How long one call may take.
    pub(crate) limit: Duration,
    pub(crate) queues: Mutex<Queues>,
    pub(crate) state: Mutex<State>,
    /// Told when there may be something to receive.
    pub(crate) wake: Arc<Notify>,
    /// Wakes the member's thread.
    pub(crate) bell: Arc<Bell>,
    /// Wakes the committer.
    pub(crate) due: Bell,
    pub(crate) phase: watch::Sender<Phase>,
}

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It waits for its first partitions.
    Joins,
    /// It has had its share, which may be none.
    Shares,
    /// It leaves the group.
    Leaves,
    /// It has left, or given up to.
    Left,
}

/// The client library's queues of the partitions that are this member's.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) partitions: Vec<Queue>,
    /// Which is asked first, so that a full one does not keep the others from their turn.
    next: usize,
    reader: RecordReader,
    /// Polled, and not of a message.
    fault: Option<Error>,
    /// Polled, and on its way to the ledger. Empty between two calls; kept for its room.
    fresh: Vec<(u32, i64, Delivery)>,
}

pub(crate) struct Queue {
    pub(crate) epoch: u32,
    pub(crate) messages: FetchQueue,
    /// Whether something of it could not be read. What is behind that would have it skipped, and is not taken.
    pub(crate) is_broken: bool,
}

/// What is in hand, and what is on its way to the cluster.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) ledger: Ledger,
    pub(crate) commits: crate::commits::Commits,
    /// Told by the next receive.
    pub(crate) fault: Option<Error>,
    /// Whether the member is giving partitions up: then the cluster is told all there is to tell of them.
    pub(crate) at_last: bool,
    /// Whether nothing will be committed any more.
    pub(crate) ended: bool,
}

/// Keeps the last fault. After one that finishes the consumer nothing else matters.
fn note(kept: &mut Option<Error>, fault: Error) {
    if kept.as_ref().is_none_or(|before| before.kind() != ErrorKind::ConnectionLost) {
        *kept = Some(fault);
    }
}

impl State {
    /// What the next receive tells.
    pub(crate) fn tell(&mut self, fault: Error) {
        note(&mut self.fault, fault);
    }

    /// Whether the cluster knows how far everything is.
    pub(crate) fn is_told(&self) -> bool {
        !self.commits.is_under_way()
            && !self.commits.is_awaited()
            && self.ledger.to_commit_at_last().is_empty()
    }
}

impl Handle {
    fn check_open(&self) -> Result<()> {
        if *self.phase.borrow() >= Phase::Leaves { Err(error::closed("the consumer")) } else { Ok(()) }
    }

    /// What can be handed out now, without waiting.
    fn take(&self, max: usize) -> Result<Vec<Delivery>> {
        let mut queues = lock(&self.queues);
        let mut taken = Vec::new();
        if let Some(fault) = lock(&self.state).fault.take() {
            return Err(fault);
        }
        loop {
            let room = {
                let mut state = lock(&self.state);
                state.ledger.hand_out(max, &mut taken);
                self.max_in_flight.saturating_sub(state.ledger.open()).min(max - taken.len())
            };
            queues.poll(&self.destination.name, room);
            let is_all = queues.fresh.is_empty();
            let mut state = lock(&self.state);
            if let Some(fault) = queues.fault.take() {
                state.tell(self.located(fault));
            }
            taken.reserve(queues.fresh.len());
            for (epoch, offset, delivery) in queues.fresh.drain(..) {
                state.ledger.take_in(epoch, offset, delivery);
            }
            state.ledger.hand_out(max, &mut taken);
            // Of a partition the first waits for its count. What was settled already is passed over.
            if !is_all && state.ledger.is_due() {
                self.due.ring();
            }
            if taken.is_empty()
                && let Some(fault) = state.fault.take()
            {
                return Err(fault);
            }
            if is_all || !taken.is_empty() {
                return Ok(taken);
            }
        }
    }

    /// Leaves the group; returns when it has, or when the cluster takes too long to hear of it.
    pub(crate) async fn close(&self) {
        self.phase.send_if_modified(|phase| {
            let leaves = *phase < Phase::Leaves;
            if leaves {
                *phase = Phase::Leaves;
            }
            leaves
        });
        self.bell.ring();
        self.wake.notify_waiters();
        let mut phase = self.phase.subscribe();
        let left = phase.wait_for(|phase| *phase == Phase::Left);
        if tokio::time::timeout(CLOSE, left).await.is_err() {
            tracing::warn!(group = %self.group, "the cluster has not answered the end of a member; it times out there");
        }
    }

    pub(crate) fn located(&self, error: Error) -> Error {
        error.with_context("destination", &self.destination.name).with_context("group", &self.group)
    }
}

/// What a close waits for at most; the member's thread goes on by itself.
const CLOSE: Duration = Duration::from_secs(5);

impl Queues {
    /// Up to `room` messages, a partition at a time.
    fn poll(&mut self, topic: &str, room: usize) {
        let (count, mut batch) = (self.partitions.len(), BatchAttributes::new(room));
        for turn in 0..count {
            let Queue { epoch, messages, is_broken } = &mut self.partitions[(self.next + turn) % count];
            // Also where reading panics: what is behind is not taken then.
            if std::mem::replace(is_broken, true) {
                continue;
            }
            let (reader, fresh, fault) = (&mut self.reader, &mut self.fresh, &mut self.fault);
            let taken = messages.take(room.saturating_sub(fresh.len()), |fetched| match fetched {
                Ok(message) => {
                    let delivery = delivery(reader, &mut batch, topic, *epoch, message);
                    fresh.push((*epoch, message.offset(), delivery));
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    if let Some(told) = error::fetching(&error) {
                        note(fault, told);
                    }
                    match error::is_unreadable(&error) {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                }
            });
            *is_broken = taken.is_break();
        }
        self.next = self.next.wrapping_add(1);
    }
}

fn delivery(
    reader: &mut RecordReader,
    batch: &mut BatchAttributes,
    topic: &str,
    epoch: u32,
    fetched: &Fetched<'_>,
) -> Delivery {
    let record = fetched.record(topic);
    Delivery {
        attempt: 1,
        position: Position::Partition {
            partition: record.partition.unsigned_abs(),
            offset: record.offset.unsigned_abs(),
        },
        token: ledger::token(epoch, record.offset),
        message: reader.read(&record, batch, fetched.headers()),
    }
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let handle = &self.0;
        let deadline = Instant::now() + wait;
        loop {
            let woken = handle.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            handle.check_open()?;
            let taken = handle.take(max)?;
            if !taken.is_empty() || max == 0 {
                return Ok(taken);
            }
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(deadline) => return Ok(Vec::new()),
            }
        }
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>> {
        let handle = &self.0;
        if let Err(error) = handle.check_open() {
            return batch.iter().map(|_| Err(error.replicate())).collect();
        }
        let (mut results, moved, commit) = {
            let mut state = lock(&handle.state);
            let settled = state.ledger.settle(&batch);
            let commit = (!settled.moved.is_empty()).then(|| state.commits.join());
            if commit.is_some() {
                handle.due.ring();
            } else if state.at_last {
                // What is in hand may have been the last that a partition waited for.
                handle.bell.ring();
            }
            (settled.results, settled.moved, commit)
        };
        // There is room again, or something to hand out again.
        handle.wake.notify_waiters();
        if let Some(commit) = commit {
            let outcome = match tokio::time::timeout(handle.limit, commit.ended()).await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::failed(
                    Error::new(
                        ErrorKind::Timeout,
                        format!("no answer to a commit within {:?}", handle.limit),
                    )
                    .with_retry(Retry::Uncertain)
                    .with_help("it is repeated by itself; see that the cluster is up"),
                ),
            };
            for (settlement, result) in batch.iter().zip(&mut results) {
                // The others hold at once: one that is told again would be of what is handed out again already.
                if result.is_ok()
                    && settlement.verdict == Verdict::Ack
                    && ledger::epoch(&settlement.token).is_some_and(|epoch| moved.contains(&epoch))
                {
                    *result = outcome.of(&settlement.token);
                }
            }
        }
        results.into_iter().map(|result| result.map_err(|error| handle.located(error))).collect()
    }

    async fn extend(&self) -> Result<()> {
        // A partition is this member's for as long as it is a member, and what is in hand with it.
        self.0.check_open()
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await;
        Ok(())
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        self.0.phase.send_if_modified(|phase| {
            let leaves = *phase < Phase::Leaves;
            if leaves {
                *phase = Phase::Leaves;
            }
            leaves
        });
        self.0.bell.ring();
    }
}

impl Link {
    /// What consumers of this connection have in hand of a topic in a group.
    pub(crate) fn in_flight(&self, topic: &str, group: &str) -> u64 {
        let of = |handle: &Arc<Handle>| *handle.destination.name == *topic && *handle.group == *group;
        let open = |handle: &Arc<Handle>| lock(&handle.state).ledger.open() as u64;
        self.consumers().iter().filter(|handle| of(handle)).map(open).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_finishes_the_consumer_is_told_whatever_comes_after_it() {
        let kind = |faults: &[ErrorKind]| {
            let mut kept = None;
            faults.iter().for_each(|kind| note(&mut kept, Error::new(*kind, "as a test")));
            kept.map(|fault| fault.kind())
        };
        use ErrorKind::{ConnectionLost, PermissionDenied, Throttled};
        assert_eq!(kind(&[PermissionDenied, Throttled]), Some(Throttled));
        assert_eq!(kind(&[PermissionDenied, ConnectionLost, Throttled]), Some(ConnectionLost));
    }
}
