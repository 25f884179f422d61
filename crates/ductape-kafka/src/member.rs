//! The thread that keeps a member in its group: it serves the client library's events.
//!
//! ```text
//!  join: where a new group begins ─▶ subscribe ─▶ serve ◀── bell: events, commits, the close
//!                                                  │ assigned: where it stands, its queues
//!                                                  │ revoked: hand out no more, drain for a while, give it up
//!                                                  └▶ close: commit at last, leave the group
//! ```
//!
//! The thread sleeps until the bell rings. A second one commits (`committer`), since a commit has to be waited for and
//! events must not.

mod context;

use crate::committer::Committer;
use crate::consumer::{Handle, Phase, Queue};
use crate::error;
use crate::fetched::FetchQueue;
use crate::groups::{self, Offsets, Partitions};
use crate::ledger::Mark;
use crate::link::lock;
pub(crate) use context::MemberContext;
use context::Rebalance;
use ductape_core::error::Retry;
use ductape_core::{Error, ErrorKind, Result, Start};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, TopicPartitionList};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long partitions that go to another member wait for what is in hand. The whole group waits with them.
///
/// Shorter than the 5 s for which the client library's request to leave a group is good, which waits behind this.
const DRAIN: Duration = Duration::from_secs(3);
/// How often the thread looks at the client library although the bell has not rung: it must be seen to be alive.
const IDLE: Duration = Duration::from_secs(2);
/// What the last commit may take.
const LAST: Duration = Duration::from_secs(2);
/// How long a member that is closed before it has joined still waits to.
const JOINING: Duration = Duration::from_secs(30);

/// Wakes the member's thread.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_one();
    }

    /// Returns when it has been rung since the last wait, or after this long.
    pub(crate) fn wait(&self, most: Duration) {
        let rung = lock(&self.rung);
        let waited = self.changed.wait_timeout_while(rung, most, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// What the thread knows.
pub(crate) struct Member {
    handle: Arc<Handle>,
    client: Arc<BaseConsumer<MemberContext>>,
    /// Where a new group begins, of partitions for which that is not committed.
    begin: Offsets,
    /// Whether it has had its first share.
    has_joined: bool,
    /// Partitions that are to be given up, and when at the latest.
    leaving: Option<Leaving>,
}

struct Leaving {
    numbers: Vec<i32>,
    deadline: Instant,
}

/// Tells assignments from each other, over all consumers of this process.
static EPOCHS: AtomicU32 = AtomicU32::new(1);

impl Member {
    /// Opens a member: the group is there and the topic subscribed when this returns. Blocks.
    ///
    /// # Errors
    /// Those of the cluster.
    pub(crate) fn open(
        config: &ClientConfig,
        handle: Arc<Handle>,
        partitions: i32,
        start: Start,
    ) -> Result<Self, KafkaError> {
        let mut client: BaseConsumer<_> = config.create_with_context(MemberContext::default())?;
        let bell = Arc::clone(&handle.bell);
        client.set_nonempty_callback(move || bell.ring());
        let topic = handle.destination.name.to_string();
        let begin = groups::establish(&client, &Partitions::all(&topic, partitions), start, handle.limit)?;
        client.subscribe(&[&topic])?;
        let client = Arc::new(client);
        Ok(Member { handle, client, begin, has_joined: false, leaving: None })
    }

    /// Who commits for this member.
    pub(crate) fn committer(&self) -> Committer {
        Committer::new(Arc::clone(&self.handle), Arc::clone(&self.client))
    }

    /// Keeps the membership until the consumer is closed, then leaves.
    pub(crate) fn run(mut self) {
        while *self.handle.phase.borrow() < Phase::Leaves {
            self.serve();
            self.give_up_when_drained();
            self.handle.bell.wait(self.next_look());
        }
        self.leave();
    }

    fn next_look(&self) -> Duration {
        let left = self.leaving.as_ref().map(|it| it.deadline.saturating_duration_since(Instant::now()));
        left.map_or(IDLE, |left| left.min(IDLE))
    }

    /// Serves every event that is there.
    fn serve(&mut self) {
        let context = Arc::clone(self.client.context());
        loop {
            let before = context.signals.served();
            let polled = self.client.poll(Duration::ZERO).map(|polled| polled.map(drop));
            if let Some(Err(error)) = &polled {
                self.fault(error);
            }
            let rebalance = lock(&context.rebalance).take();
            if let Some(rebalance) = rebalance {
                self.rebalance(rebalance);
            }
            if polled.is_none() && context.signals.served() == before {
                return;
            }
        }
    }

    /// What the client library cannot mend by itself is told by the next receive.
    fn fault(&self, error: &KafkaError) {
        let Some(told) = error::consuming(error) else { return };
        lock(&self.handle.state).tell(self.handle.located(told));
        self.handle.wake.notify_waiters();
    }

    fn rebalance(&mut self, rebalance: Rebalance) {
        match rebalance {
            Rebalance::Assign(numbers) => {
                self.has_joined = true;
                if let Err(error) = self.assign(&numbers) {
                    self.not_assigned(&error);
                }
                self.handle.phase.send_if_modified(|phase| {
                    let first = *phase == Phase::Joins;
                    if first {
                        *phase = Phase::Shares;
                    }
                    first
                });
            }
            Rebalance::Revoke(numbers) => self.revoke(numbers),
        }
    }

    /// Takes partitions over, where the group stands in each.
    fn assign(&mut self, numbers: &[i32]) -> Result<(), KafkaError> {
        let topic = Arc::clone(&self.handle.destination.name);
        let partitions = Partitions { topic: &topic, numbers: numbers.to_vec() };
        let committed = groups::committed(&*self.client, &partitions, self.handle.limit)?;
        let unknown: Vec<i32> = numbers
            .iter()
            .copied()
            .filter(|n| !committed.contains_key(n) && !self.begin.contains_key(n))
            .collect();
        let beginnings = match unknown.is_empty() {
            true => Offsets::new(),
            // Partitions that came after the group: it is to miss nothing of them.
            false => {
                let unknown = Partitions { topic: &topic, numbers: unknown };
                groups::edges(&*self.client, &unknown, rdkafka::Offset::Beginning, self.handle.limit)?
            }
        };
        let stands = |number: i32| {
            let begin = || self.begin.get(&number).or_else(|| beginnings.get(&number)).copied().unwrap_or(0);
            committed.get(&number).cloned().unwrap_or_else(|| Mark::new(begin(), 0))
        };
        let marks: Vec<_> = numbers.iter().map(|number| (*number, stands(*number))).collect();
        self.take_over(&marks, &|number| !committed.contains_key(&number))
    }

    fn take_over(&self, marks: &[(i32, Mark)], is_new: &dyn Fn(i32) -> bool) -> Result<(), KafkaError> {
        let topic = &self.handle.destination.name;
        let mut queues = Vec::new();
        for (number, mark) in marks {
            let epoch = EPOCHS.fetch_add(1, Ordering::Relaxed);
            // Before the assignment: a queue that is taken aside later misses what came first.
            let wake = Arc::clone(&self.handle.wake);
            let on_message = move || wake.notify_waiters();
            let Some(messages) = FetchQueue::split(&self.client, topic, *number, on_message) else {
                continue;
            };
            lock(&self.handle.state).ledger.assign(epoch, *number, mark.clone(), is_new(*number));
            queues.push(Queue { epoch, messages, is_broken: false });
        }
        lock(&self.handle.queues).partitions.extend(queues);
        // A new group is told of at once.
        self.handle.due.ring();
        let list = groups::marks_list(topic, marks.iter().cloned())?;
        self.client.incremental_assign(&list)?;
        tracing::debug!(group = %self.handle.group, %topic, partitions = marks.len(), "partitions assigned");
        self.handle.wake.notify_waiters();
        Ok(())
    }

    /// Without its offsets a partition cannot be begun. The consumer is replaced.
    fn not_assigned(&self, error: &KafkaError) {
        let lost =
            Error::new(ErrorKind::ConnectionLost, format!("where the group stands is not known: {error}"))
                .with_retry(Retry::Safe)
                .with_help("another consumer is opened by itself; see that the cluster is up");
        lock(&self.handle.state).tell(self.handle.located(lost));
        if let Err(error) = self.client.incremental_assign(&TopicPartitionList::new()) {
            tracing::debug!(%error, "an empty assignment is not taken");
        }
        self.handle.wake.notify_waiters();
    }

    /// Hands nothing more of these out. They are given up when nothing of them is in hand, or soon after.
    fn revoke(&mut self, numbers: Vec<i32>) {
        let epochs: Vec<u32> = {
            let state = lock(&self.handle.state);
            numbers.iter().filter_map(|number| state.ledger.epoch_of(*number)).collect()
        };
        // The queues first: whoever receives holds them while it takes in what it polled.
        lock(&self.handle.queues).partitions.retain(|queue| !epochs.contains(&queue.epoch));
        let mut state = lock(&self.handle.state);
        epochs.iter().for_each(|epoch| state.ledger.leave(*epoch));
        state.at_last = true;
        drop(state);
        self.handle.due.ring();
        let wait = match self.client.assignment_lost() || *self.handle.phase.borrow() >= Phase::Leaves {
            true => Duration::ZERO,
            false => DRAIN,
        };
        self.leaving = Some(Leaving { numbers, deadline: Instant::now() + wait });
        self.give_up_when_drained();
    }

    /// Gives partitions up once their verdicts are committed, or their time is over.
    fn give_up_when_drained(&mut self) {
        let Some(leaving) = &self.leaving else { return };
        let mut state = lock(&self.handle.state);
        let epochs: Vec<u32> =
            leaving.numbers.iter().filter_map(|number| state.ledger.epoch_of(*number)).collect();
        let is_told = !state.ledger.to_commit_at_last().iter().any(|(epoch, ..)| epochs.contains(epoch));
        let drained = epochs.iter().all(|epoch| state.ledger.is_idle(*epoch)) && is_told;
        if !drained && Instant::now() < leaving.deadline {
            return;
        }
        epochs.iter().for_each(|epoch| state.ledger.lose(*epoch));
        state.commits.lose(epochs);
        state.at_last = false;
        drop(state);
        // Who waits for a commit of what is lost hears so.
        self.handle.due.ring();
        let numbers = self.leaving.take().map_or_else(Vec::new, |leaving| leaving.numbers);
        let topic = &self.handle.destination.name;
        let mut list = TopicPartitionList::with_capacity(numbers.len());
        for number in &numbers {
            list.add_partition(topic, *number);
        }
        if let Err(error) = self.client.incremental_unassign(&list) {
            tracing::debug!(%error, "partitions are not given up");
        }
        tracing::debug!(group = %self.handle.group, %topic, partitions = numbers.len(), "partitions given up");
        self.handle.wake.notify_waiters();
    }

    /// Commits at last, leaves the group, and tells whoever closes.
    fn leave(mut self) {
        self.handle.queues_cleared();
        let mut state = lock(&self.handle.state);
        for epoch in state.ledger.epochs() {
            state.ledger.leave(epoch);
        }
        state.at_last = true;
        drop(state);
        self.handle.due.ring();
        self.serve_until_told();
        match self.client.close_queue() {
            Ok(()) => {
                while !self.client.closed() {
                    self.serve();
                    self.handle.bell.wait(Duration::from_millis(5));
                }
            }
            // A client that met a fatal error is not closed, and never says that it is.
            Err(error) => tracing::debug!(%error, "the member does not close"),
        }
        self.end();
    }

    /// Goes on until the cluster knows how far everything is, and that this is a member.
    ///
    /// Whoever goes away while it joins is not missed before its session is over, and the whole group waits for it; a
    /// group whose members come and go faster would never come to rest. So this takes longer than a close waits for it.
    fn serve_until_told(&mut self) {
        let (told_by, joined_by) = (Instant::now() + LAST, Instant::now() + JOINING);
        loop {
            self.serve();
            let now = Instant::now();
            let left = match self.has_joined {
                false => joined_by.saturating_duration_since(now),
                true if lock(&self.handle.state).is_told() => return,
                true => told_by.saturating_duration_since(now),
            };
            if left.is_zero() {
                return;
            }
            self.handle.bell.wait(left);
        }
    }

    /// Nobody is left waiting.
    fn end(&self) {
        self.handle.queues_cleared();
        let mut state = lock(&self.handle.state);
        for epoch in state.ledger.epochs() {
            state.ledger.lose(epoch);
        }
        state.commits.end();
        state.ended = true;
        drop(state);
        self.handle.due.ring();
        self.handle.phase.send_replace(Phase::Left);
        self.handle.wake.notify_waiters();
    }
}

impl Handle {
    /// The queues keep the client alive, and go before it.
    fn queues_cleared(&self) {
        lock(&self.queues).partitions.clear();
    }
}
