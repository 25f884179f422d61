//! A shard: the lanes of one task. It starts handlers, keeps the order of each key, waits for retries,
//! dead-letters what is given up, and collects verdicts.
//!
//! ```text
//!  inbox ─▶ fresh ─▶ first poll ──ready──▶ conclude ─▶ outbox ─▶ settle (few calls at once)
//!             ▲          └──pending──▶ running ──▲  │
//!             │                                    ├─▶ waiting (retry, holds its lane) ─▶ ready
//!             └──── lane of the key opens ◀────────┴─▶ dying (publish of the dead letter)
//! ```
//!
//! Invariants: a key is in `lanes` exactly while one of its deliveries is running, waiting, dying, or in `ready`
//! with `holds_lane`; every task ends in the outbox exactly once; nothing here blocks or takes a lock.

mod conclude;
mod start;

use super::handler::Handler;
use super::running::{Carrying, End, HandlerRun, Place};
use super::shared::Shared;
use super::stats::Stats;
use super::task::{Outbox, Run, Source, Task};
use crate::delivery::{Delivery, Verdict};
use crate::message::Key;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Settle calls under way at once. Past them verdicts collect, and the next call takes them all.
const MAX_SETTLING: usize = 4;
/// As many where the next one is large: a provider counts what it has not been told of as in hand.
const MAX_SETTLING_LARGE: usize = 32;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a shard is told.
pub(super) enum Inbound {
    /// Handle these.
    Deliveries(Source, Vec<Delivery>),
    /// Start nothing more, give back what has not started, finish the rest.
    Drain,
    /// Give back everything now.
    Abort,
}

pub(super) struct Shard<H: Handler> {
    shared: Arc<Shared<H>>,
    inbox: mpsc::UnboundedReceiver<Inbound>,
    inbox_open: bool,
    draining: bool,
    /// May start before everything else: their lane has opened, or their wait is over.
    ready: VecDeque<Task>,
    fresh: VecDeque<Run>,
    lanes: HashMap<Key, VecDeque<Task>>,
    running: FuturesUnordered<Carrying<HandlerRun<H::Future>>>,
    /// The suspect, while it waits for all others to end and then runs.
    alone: FuturesUnordered<Carrying<BoxFuture<End>>>,
    spare: Option<Place<H::Future>>,
    slot: Option<OwnedSemaphorePermit>,
    slot_wanted: Option<BoxFuture<Option<OwnedSemaphorePermit>>>,
    waiting: BTreeMap<(Duration, u64), Task>,
    waited: u64,
    timer: Option<(Duration, BoxFuture<()>)>,
    dying: FuturesUnordered<Carrying<BoxFuture<()>>>,
    outbox: Outbox,
    settling: FuturesUnordered<BoxFuture<()>>,
    /// How long it was busy since a delivery had its verdict.
    busy: Duration,
}

impl<H: Handler> Shard<H> {
    pub(super) fn new(shared: Arc<Shared<H>>, inbox: mpsc::UnboundedReceiver<Inbound>) -> Self {
        Shard {
            shared,
            inbox,
            inbox_open: true,
            draining: false,
            ready: VecDeque::new(),
            fresh: VecDeque::new(),
            lanes: HashMap::new(),
            running: FuturesUnordered::new(),
            alone: FuturesUnordered::new(),
            spare: None,
            slot: None,
            slot_wanted: None,
            waiting: BTreeMap::new(),
            waited: 0,
            timer: None,
            dying: FuturesUnordered::new(),
            outbox: Outbox::default(),
            settling: FuturesUnordered::new(),
            busy: Duration::ZERO,
        }
    }

    /// Runs until it is told to drain, or its inbox is closed, and everything that it had is settled.
    pub(super) async fn run(mut self) {
        poll_fn(|cx| self.turn(cx)).await;
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let start = Instant::now();
        self.take_inbound(cx);
        // One for the turn: what finishes or falls due at once must not keep it going for ever.
        let mut budget = self.shared.pace.starts();
        let more = loop {
            let more = self.start_ready(&mut budget, cx);
            // Both after the start, so that what it left pending is polled and what it put off has a timer.
            let finished = self.take_finished(cx);
            let due = self.take_due(cx);
            if more || !(finished || due) {
                break more;
            }
        };
        let concluded = self.settle(cx);
        self.busy += start.elapsed();
        if concluded > 0 {
            self.shared.pace.note(std::mem::take(&mut self.busy), concluded);
        }
        if self.is_done() {
            return Poll::Ready(());
        }
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn is_done(&self) -> bool {
        let idle = !self.has_startable() && self.running.is_empty() && self.waiting.is_empty();
        let idle = idle && self.alone.is_empty();
        self.draining && idle && self.dying.is_empty() && self.outbox.is_empty() && self.settling.is_empty()
    }

    fn take_inbound(&mut self, cx: &mut Context<'_>) {
        while self.inbox_open {
            match self.inbox.poll_recv(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => {
                    self.inbox_open = false;
                    self.drain();
                }
                Poll::Ready(Some(Inbound::Drain)) => self.drain(),
                Poll::Ready(Some(Inbound::Abort)) => self.abort(),
                Poll::Ready(Some(Inbound::Deliveries(source, deliveries))) => self.admit(source, deliveries),
            }
        }
    }

    fn admit(&mut self, source: Source, deliveries: Vec<Delivery>) {
        let mut run = Run { generation: source.generation, deliveries: deliveries.into() };
        self.outbox.admit(source, run.deliveries.len());
        if self.draining {
            while let Some(task) = run.pop() {
                self.release(task);
            }
        } else {
            self.fresh.push_back(run);
        }
    }

    /// Whether anything had finished.
    fn take_finished(&mut self, cx: &mut Context<'_>) -> bool {
        let mut finished = false;
        while let Poll::Ready(Some((task, end))) = self.running.poll_next_unpin(cx) {
            finished = true;
            if let Some(task) = task {
                self.conclude(task, end);
            }
        }
        while let Poll::Ready(Some((task, end))) = self.alone.poll_next_unpin(cx) {
            finished = true;
            self.shared.suspect.send_replace(false);
            if let Some(task) = task {
                self.conclude(task, end);
            }
        }
        while let Poll::Ready(Some((task, ()))) = self.dying.poll_next_unpin(cx) {
            finished = true;
            if let Some(task) = task {
                Stats::add(&self.shared.stats.dead_lettered, 1);
                self.finish(task, Verdict::Ack);
            }
        }
        finished
    }

    /// Moves retries whose time has come to the front of what is ready. Whether there were any.
    fn take_due(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        loop {
            let Some(entry) = self.waiting.first_entry() else {
                self.timer = None;
                return any;
            };
            let due = entry.key().0;
            let now = self.shared.clock.monotonic();
            if due <= now {
                let task = entry.remove();
                self.ready.push_front(task);
                any = true;
                continue;
            }
            if self.timer.as_ref().is_none_or(|(armed, _)| *armed != due) {
                self.timer = Some((due, self.shared.clock.sleep_until(due)));
            }
            let Some((_, sleep)) = &mut self.timer else { return any };
            if sleep.as_mut().poll(cx).is_pending() {
                return any;
            }
            self.timer = None;
        }
    }

    /// Gives back what has not started: it is in order at the provider, and others may have it.
    fn drain(&mut self) {
        self.draining = true;
        let mut unstarted: Vec<Task> = std::mem::take(&mut self.ready).into();
        for mut run in std::mem::take(&mut self.fresh) {
            unstarted.extend(std::iter::from_fn(|| run.pop()));
        }
        unstarted.extend(self.lanes.values_mut().flat_map(std::mem::take));
        unstarted.extend(std::mem::take(&mut self.waiting).into_values());
        unstarted.into_iter().for_each(|task| self.release(task));
    }

    /// Drops what is under way. A handler that was cut off has had its attempt; a dead letter that was not
    /// taken has not left its place.
    fn abort(&mut self) {
        self.drain();
        let alone = self.alone.iter_mut().filter_map(Carrying::abandon);
        let cut: Vec<Task> = self.running.iter_mut().filter_map(Carrying::abandon).chain(alone).collect();
        let unburied: Vec<Task> = self.dying.iter_mut().filter_map(Carrying::abandon).collect();
        for task in cut {
            self.outbox.push(task.generation, task.delivery.token, Verdict::Retry(Duration::ZERO));
        }
        unburied.into_iter().for_each(|task| self.release(task));
        self.running.clear();
        self.alone.clear();
        self.dying.clear();
        self.lanes.clear();
    }

    fn may_settle(&self) -> bool {
        let is_large = self.outbox.len() >= self.shared.in_flight.large();
        self.settling.len() < if is_large { MAX_SETTLING_LARGE } else { MAX_SETTLING }
    }

    /// Hands verdicts to their consumers, a few calls at once. Gives how many are new.
    fn settle(&mut self, cx: &mut Context<'_>) -> usize {
        let fresh = self.outbox.take_fresh();
        if fresh > 0 {
            self.shared.in_flight.conclude(fresh);
        }
        loop {
            while self.may_settle()
                && let Some((source, batch)) = self.outbox.take()
            {
                let shared = Arc::clone(&self.shared);
                self.settling.push(Box::pin(super::settle::settle(shared, source, batch)));
            }
            match self.settling.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => {}
                _ => return fresh,
            }
        }
    }
}
