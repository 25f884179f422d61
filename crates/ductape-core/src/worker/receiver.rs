//! The receiver: takes deliveries while there is room, hands them to the shards, replaces a lost consumer, and
//! sees the worker through its stop.

mod suspects;

use super::handler::Handler;
use super::keep::keep_leases;
use super::settle::settle;
use super::shard::{Inbound, Shard};
use super::shared::Shared;
use super::stats::Stats;
use super::task::Source;
use super::{Health, WorkerOptions, WorkerSource, is_lost};
use crate::broker::Consumer;
use crate::delivery::{Delivery, Settlement, Verdict};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::retry::RetryPolicy;
use futures_util::FutureExt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// What is added to the drain timeout for settling, and again for closing.
const GRACE: Duration = Duration::from_secs(5);
/// How long a suspect, or another bound, waits for what is in hand.
const CROWDED: Duration = Duration::from_secs(1);

pub(super) struct Receiver<H: Handler> {
    source: WorkerSource,
    drain_timeout: Duration,
    shared: Arc<Shared<H>>,
    health: watch::Sender<Health>,
    shards: Vec<mpsc::UnboundedSender<Inbound>>,
    tasks: JoinSet<()>,
    hasher: RandomState,
    generation: u64,
    failed: u32,
    /// Where the provider counts what it sends ahead as tried: how many more deliveries come one at a time, since there was
    /// a suspect among them.
    careful: Option<usize>,
    /// Whether a suspect was sent back because of what was in hand.
    crowded: bool,
    /// Whether that had its time.
    waited: bool,
}

/// Why a consumer is no longer received from.
enum End {
    Lost(Error),
    /// One with another bound is due.
    Bound,
    /// A shard is gone, with what it had.
    Broken,
}

impl<H: Handler> Receiver<H> {
    pub(super) fn new(
        source: WorkerSource,
        options: &WorkerOptions,
        shared: Arc<Shared<H>>,
        health: watch::Sender<Health>,
    ) -> Self {
        let (mut shards, mut tasks) = (Vec::new(), JoinSet::new());
        for _ in 0..shard_count(options.concurrency) {
            // Bounded by `max_in_flight`: nothing is sent that is not counted there.
            let (sender, inbox) = mpsc::unbounded_channel();
            tasks.spawn(watched(Shard::new(Arc::clone(&shared), inbox), Arc::clone(&shared)));
            shards.push(sender);
        }
        let drain_timeout = options.drain_timeout;
        let hasher = RandomState::new();
        Receiver {
            source,
            drain_timeout,
            shared,
            health,
            shards,
            tasks,
            hasher,
            generation: 0,
            failed: 0,
            careful: None,
            crowded: false,
            waited: false,
        }
    }

    pub(super) async fn run(mut self, consumer: Arc<dyn Consumer>, mut stopping: watch::Receiver<bool>) {
        let mut current = Some(consumer);
        while let Some(consumer) = current {
            let keeper = self.keep_leases(&consumer);
            let end = self.receive(&consumer, &mut stopping).await;
            match &end {
                Some(End::Lost(_)) => {}
                Some(End::Bound) => close(&*consumer).await,
                Some(End::Broken) | None => {
                    self.finish_shards().await;
                    close(&*consumer).await;
                }
            }
            drop(keeper);
            // A lost one gives back what it had, at the latest, when nobody holds it.
            drop(consumer);
            current = match end {
                Some(End::Lost(error)) => self.reopen(Some(error), &mut stopping).await,
                Some(End::Bound) => self.reopen(None, &mut stopping).await,
                // Without a word of having stopped, which tells that it ended badly.
                Some(End::Broken) => return,
                None => None,
            };
        }
        // Told to stop without a consumer: what is in hand is still to be finished.
        self.finish_shards().await;
        self.health.send_replace(Health::Stopped);
    }

    /// Receives until told to stop (`None`) or until another consumer is due.
    async fn receive(
        &mut self,
        consumer: &Arc<dyn Consumer>,
        stopping: &mut watch::Receiver<bool>,
    ) -> Option<End> {
        loop {
            unless_stopped(stopping, self.uncrowded()).await?;
            let received = tokio::select! {
                biased;
                () = self.broken() => return Some(End::Broken),
                error = self.given_up() => {
                    // What it has in hand is to be another's.
                    close(&**consumer).await;
                    return Some(End::Lost(error));
                }
                received = unless_stopped(stopping, self.next(consumer)) => received?,
            };
            match received {
                Ok(mut deliveries) => {
                    self.recovered();
                    if self.becomes_careful(&deliveries) {
                        unless_stopped(stopping, self.give_back(consumer, deliveries)).await?;
                        return self.emptied(stopping).await;
                    }
                    let is_over = self.has_been_careful(&deliveries);
                    let later = self.cut_suspects(&mut deliveries);
                    // Taken before the suspect may run: if it kills the process, what is in hand beside it counts
                    // as tried too. What is not handed on at a stop comes back when the consumer closes.
                    unless_stopped(stopping, self.give_back(consumer, later)).await?;
                    self.dispatch(consumer, deliveries);
                    if is_over {
                        return self.emptied(stopping).await;
                    }
                }
                Err(error) if is_lost(&error) => return Some(End::Lost(error)),
                Err(error) => unless_stopped(stopping, self.back_off(&error)).await?,
            }
        }
    }

    /// Waits for what is in hand before a consumer with another bound: it would come again while it is handled. Where one
    /// at a time is to come from now on, not for long, since what waits for its next attempt is in hand too; where there
    /// is but one, nothing else could come meanwhile.
    async fn emptied(&self, stopping: &mut watch::Receiver<bool>) -> Option<End> {
        let limit = if self.careful.is_some() { CROWDED } else { Duration::MAX };
        let emptied = tokio::time::timeout(limit, self.shared.in_flight.none());
        tokio::select! {
            biased;
            () = self.broken() => return Some(End::Broken),
            ended = unless_stopped(stopping, emptied) => drop(ended?),
        }
        Some(End::Bound)
    }

    /// Waits until a shard is gone.
    async fn broken(&self) {
        let mut broken = self.shared.broken.subscribe();
        // The sender lives as long as `shared`.
        let _ = broken.wait_for(|broken| *broken).await;
    }

    /// What comes next, once there is room for it.
    async fn next(&self, consumer: &Arc<dyn Consumer>) -> Result<Vec<Delivery>> {
        self.no_suspect().await;
        let room = self.shared.in_flight.room().await;
        self.source.receive(&**consumer, room).await
    }

    /// Waits until this consumer did not take a verdict.
    async fn given_up(&self) -> Error {
        let mut given_up = self.shared.given_up.subscribe();
        // The sender lives as long as `shared`.
        let _ = given_up.wait_for(|generation| *generation == Some(self.generation)).await;
        Error::new(ErrorKind::ConnectionLost, "the consumer did not take a verdict")
    }

    async fn give_back(&self, consumer: &Arc<dyn Consumer>, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        Stats::add(&self.shared.stats.received, deliveries.len() as u64);
        Stats::add(&self.shared.stats.released, deliveries.len() as u64);
        self.shared.in_flight.add(deliveries.len());
        self.shared.in_flight.conclude(deliveries.len());
        let release = |delivery: Delivery| Settlement { token: delivery.token, verdict: Verdict::Release };
        let batch = deliveries.into_iter().map(release).collect();
        let source = Source { generation: self.generation, consumer: Arc::clone(consumer) };
        settle(Arc::clone(&self.shared), source, batch).await;
    }

    fn recovered(&mut self) {
        if self.failed > 0 {
            self.failed = 0;
            tracing::info!(destination = %self.source.destination.name, "receiving again");
            self.health.send_replace(Health::Running);
        }
    }

    async fn back_off(&mut self, error: &Error) {
        self.failed = self.failed.saturating_add(1);
        let mut wait = RetryPolicy::reconnect().delay(self.failed, fastrand::f64());
        if let Retry::After(after) = error.retry() {
            wait = wait.max(after);
        }
        tracing::warn!(%error, failed = self.failed, ?wait, "cannot receive; trying again");
        self.health.send_replace(Health::Reconnecting(error.to_string()));
        self.shared.clock.sleep(wait).await;
    }

    /// Opens another consumer, however often that takes, and not at once where the last was lost; `None` when told to
    /// stop meanwhile.
    async fn reopen(
        &mut self,
        mut lost: Option<Error>,
        stopping: &mut watch::Receiver<bool>,
    ) -> Option<Arc<dyn Consumer>> {
        let bound = if self.careful.is_some() { 1 } else { self.source.consumer.max_in_flight };
        let source = self.source.bounded(bound);
        loop {
            if let Some(error) = &lost {
                unless_stopped(stopping, self.back_off(error)).await?;
            }
            match unless_stopped(stopping, source.reopen()).await? {
                Ok(consumer) => {
                    self.generation += 1;
                    self.shared.generation.store(self.generation, Ordering::Release);
                    Stats::add(&self.shared.stats.reconnects, u64::from(lost.is_some()));
                    return Some(consumer);
                }
                Err(again) => lost = Some(again),
            }
        }
    }

    /// Hands deliveries to the shards: those of one key always to the same, the others in even runs to as many as the
    /// batch is worth.
    fn dispatch(&self, consumer: &Arc<dyn Consumer>, deliveries: Vec<Delivery>) {
        let count = deliveries.len();
        if count == 0 {
            return;
        }
        Stats::add(&self.shared.stats.received, count as u64);
        self.shared.in_flight.add(count);
        let source = Source { generation: self.generation, consumer: Arc::clone(consumer) };
        if let [only] = &self.shards[..] {
            return send(only, source, deliveries);
        }
        let worth = self.shared.pace.shards(count, self.shards.len());
        if worth == 1 && deliveries.iter().all(|delivery| delivery.message.key.is_none()) {
            return send(&self.shards[0], source, deliveries);
        }
        let mut parts: Vec<Vec<Delivery>> = self.shards.iter().map(|_| Vec::new()).collect();
        let run = count.div_ceil(worth);
        for (i, delivery) in deliveries.into_iter().enumerate() {
            let shard = match &delivery.message.key {
                Some(key) => self.hasher.hash_one(key) as usize % parts.len(),
                None => i / run,
            };
            parts[shard].push(delivery);
        }
        for (shard, part) in self.shards.iter().zip(parts).filter(|(_, part)| !part.is_empty()) {
            send(shard, source.clone(), part);
        }
    }

    /// Renews the consumer's leases apart from everything that might be slow. It ends with what is returned, however the
    /// receiver ends.
    fn keep_leases(&self, consumer: &Arc<dyn Consumer>) -> JoinSet<()> {
        let (consumer, clock) = (Arc::clone(consumer), self.shared.clock.clone());
        let lease = self.source.consumer.lease;
        let mut keeper = JoinSet::new();
        keeper.spawn(async move { keep_leases(&*consumer, &clock, lease).await });
        keeper
    }

    /// Drains the shards, cuts them off when they take too long, and gives them up when even that hangs.
    async fn finish_shards(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        self.health.send_replace(Health::Stopping);
        self.shared.stopping.store(true, Ordering::Release);
        self.tell(|| Inbound::Drain);
        if !self.joined(self.drain_timeout).await {
            self.tell(|| Inbound::Abort);
            if !self.joined(GRACE).await {
                tracing::warn!(
                    "the broker did not take the last verdicts in time; those messages come again"
                );
            }
        }
        // Dropped, and not waited for: a handler that blocks its thread cannot be stopped at all.
        self.tasks = JoinSet::new();
    }

    fn tell(&self, what: impl Fn() -> Inbound) {
        // A shard that is gone needs no telling.
        self.shards.iter().for_each(|shard| drop(shard.send(what())));
    }

    /// Whether every shard has nothing left within this time.
    async fn joined(&mut self, within: Duration) -> bool {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

/// Runs a shard. One that panics takes along what it had, and never takes anything again.
async fn watched<H: Handler>(shard: Shard<H>, shared: Arc<Shared<H>>) {
    if AssertUnwindSafe(shard.run()).catch_unwind().await.is_err() {
        tracing::error!("the worker is broken, and stops: a part of it panicked");
        shared.broken.send_replace(true);
    }
}

async fn close(consumer: &dyn Consumer) {
    match tokio::time::timeout(GRACE, consumer.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the consumer did not close cleanly"),
        Err(_) => tracing::warn!("the consumer did not close in time"),
    }
}

fn send(shard: &mpsc::UnboundedSender<Inbound>, source: Source, deliveries: Vec<Delivery>) {
    // A shard ends only after its sender is gone.
    let _ = shard.send(Inbound::Deliveries(source, deliveries));
}

/// One task for each core that the runtime uses, and never more than there may be handlers.
fn shard_count(concurrency: usize) -> usize {
    tokio::runtime::Handle::current().metrics().num_workers().clamp(1, concurrency.max(1))
}

/// `None` as soon as a stop is asked for, or its handle is gone.
async fn unless_stopped<T>(stopping: &mut watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        _ = stopping.wait_for(|stop| *stop) => None,
        output = work => Some(output),
    }
}
