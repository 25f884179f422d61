//! The worker: one for all providers. It receives, keeps lanes by key, calls handlers, retries, dead-letters,
//! settles, renews leases, reconnects, and stops cleanly.
//!
//! ```text
//!                       ┌─ shard: lanes, handlers ─┐
//!  Consumer ─▶ receiver ┤          …               ├─▶ Consumer::settle
//!     ▲            │    └─ shard ──────────────────┘
//!     └─ extend ── keeper
//! ```
//!
//! What holds:
//! - At most `max_in_flight` deliveries are in hand; at the bound the worker stops receiving, so memory follows
//!   the bound and not the backlog. Of those that have their verdict, at most eight times as many wait for the provider
//!   to take it; a process that dies may see these again too.
//! - At most `concurrency` handlers are under way. A delivery that may have killed the process runs alone.
//! - Deliveries of one key are handled one at a time, in the order received; a retry keeps its place.
//! - A delivery is acknowledged only after its handler returned `Ok`, or after its dead letter was taken.
//! - A stop ends within `drain_timeout` and ten seconds, whatever handlers and broker do.

mod handler;
mod keep;
mod pace;
mod receiver;
mod running;
mod settle;
mod shard;
mod shared;
mod stats;
mod task;

pub use handler::{
    Failure, FailureVerdict, FnHandler, Handler, IntoHandler, IntoOutcome, Outcome, Payload,
    PayloadAndDelivery, Raw,
};
pub(crate) use keep::keep_leases;
pub(crate) use settle::{PATIENCE, answers, may_be_told_again};
pub use stats::SubscriptionStats;

use crate::broker::{Broker, Consumer, ConsumerOptions, Destination};
use crate::capability::Capabilities;
use crate::dead_letter::DeadLetterSink;
use crate::delivery::{Delivery, OnRetry};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::retry::RetryPolicy;
use crate::time::Clock;
use futures_util::FutureExt;
use pace::Pace;
use receiver::Receiver;
use shared::{InFlight, Shared};
use stats::Stats;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// How long one receive waits for something to come.
const RECEIVE_WAIT: Duration = Duration::from_secs(20);

/// How a worker works. [`Default`] is right for most.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The most handlers under way at once. At least 1. Default 16.
    pub concurrency: usize,
    /// When a failed delivery is tried again and when it is given up.
    pub retry: RetryPolicy,
    /// How long one attempt of a handler may take. Default 60 s.
    pub timeout: Duration,
    /// How long a stop waits for handlers under way. Default 30 s.
    pub drain_timeout: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        WorkerOptions {
            concurrency: 16,
            retry: RetryPolicy::default(),
            timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Where a worker's deliveries come from and its dead letters go.
#[derive(Clone)]
pub struct WorkerSource {
    /// The connection, for the first consumer and those after a loss.
    pub broker: Arc<dyn Broker>,
    /// What is consumed.
    pub destination: Destination,
    /// As which member of which group, and how much at once.
    pub consumer: ConsumerOptions,
    /// What the destination can do.
    pub capabilities: Capabilities,
    /// Where what is given up goes.
    pub dead_letters: Arc<DeadLetterSink>,
    /// What time it is.
    pub clock: Clock,
    /// How long one call to the broker may take before it counts as failed.
    pub deadline: Duration,
    /// Who is told of retries.
    pub on_retry: OnRetry,
}

impl WorkerSource {
    /// Opens a consumer within the deadline.
    pub(crate) async fn open(&self) -> Result<Arc<dyn Consumer>> {
        within(self.deadline, self.broker.consumer(&self.destination, &self.consumer)).await
    }

    /// Opens a consumer after a loss, and makes anew what it consumes from where that is gone.
    pub(crate) async fn reopen(&self) -> Result<Arc<dyn Consumer>> {
        within(self.deadline, self.broker.ensure(&self.destination)).await?;
        self.open().await
    }

    /// The same with another bound.
    pub(crate) fn bounded(&self, max_in_flight: usize) -> WorkerSource {
        let mut source = self.clone();
        source.consumer.max_in_flight = max_in_flight;
        source
    }

    /// Receives. A broker that hangs or panics is like one that is gone.
    pub(crate) async fn receive(&self, consumer: &dyn Consumer, max: usize) -> Result<Vec<Delivery>> {
        let received = AssertUnwindSafe(consumer.receive(max, RECEIVE_WAIT)).catch_unwind();
        let lost = |what| Err(Error::new(ErrorKind::ConnectionLost, what));
        match tokio::time::timeout(RECEIVE_WAIT.saturating_add(self.deadline), received).await {
            Ok(Ok(received)) => received,
            Ok(Err(_)) => lost("the provider panicked in a receive"),
            Err(_) => lost("no answer to a receive"),
        }
    }
}

/// Whether only another consumer helps, and perhaps making anew what it consumes from.
pub(crate) fn is_lost(error: &Error) -> bool {
    use ErrorKind::{Closed, ConnectionLost, DestinationNotFound, GroupNotFound};
    matches!(error.kind(), ConnectionLost | Closed | DestinationNotFound | GroupNotFound)
}

/// The call's own result, or `TIMEOUT` after the deadline.
pub(crate) async fn within<T>(deadline: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(ErrorKind::Timeout, format!("no answer within {deadline:?}"))
            .with_retry(Retry::Safe)
            .with_help("see that the server is up and reachable from here")),
    }
}

/// How a subscription is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It receives.
    Running,
    /// It lost its consumer or could not receive, and tries again. The text is the last error.
    Reconnecting(String),
    /// It has been told to stop and finishes what it has in hand.
    Stopping,
    /// It has stopped.
    Stopped,
}

/// A running worker. Dropping it stops it in the background.
#[derive(Debug)]
pub struct Subscription {
    stop: watch::Sender<bool>,
    health: watch::Receiver<Health>,
    progress: Arc<dyn Progress>,
}

trait Progress: Send + Sync + std::fmt::Debug {
    fn stats(&self) -> SubscriptionStats;
}

impl<H: Send + Sync> Progress for Shared<H> {
    fn stats(&self) -> SubscriptionStats {
        self.stats.read(self.in_flight.count())
    }
}

impl<H> std::fmt::Debug for Shared<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("group", &self.group).field("stats", &self.stats).finish()
    }
}

impl Subscription {
    /// Opens a consumer and starts a worker on it.
    ///
    /// # Errors
    /// Those of [`Broker::consumer`]: what cannot be opened at the start is the caller's to know.
    pub async fn start<H: Handler>(source: WorkerSource, options: WorkerOptions, handler: H) -> Result<Self> {
        let consumer = source.open().await?;
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let concurrency = u32::try_from(options.concurrency).unwrap_or(most).clamp(1, most);
        let shared = Arc::new(Shared {
            handler,
            group: Arc::clone(&source.consumer.group),
            retry: options.retry,
            timeout: options.timeout,
            capabilities: source.capabilities.clone(),
            clock: source.clock.clone(),
            deadline: source.deadline,
            on_retry: source.on_retry.clone(),
            dead_letters: Arc::clone(&source.dead_letters),
            stats: Arc::new(Stats::default()),
            slots: Arc::new(Semaphore::new(concurrency as usize)),
            concurrency,
            suspect: watch::Sender::new(false),
            given_up: watch::Sender::new(None),
            broken: watch::Sender::new(false),
            generation: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            in_flight: InFlight::new(source.consumer.max_in_flight.max(1)),
            pace: Pace::new(),
        });
        let (stop, stopping) = watch::channel(false);
        let (health_tx, health) = watch::channel(Health::Running);
        let receiver = Receiver::new(source, &options, Arc::clone(&shared), health_tx);
        tokio::spawn(receiver.run(consumer, stopping));
        Ok(Subscription { stop, health, progress: shared })
    }

    /// Stops: receives nothing more, lets handlers under way finish within the drain timeout, settles, gives the
    /// rest back for others, and closes the consumer. The group stays.
    ///
    /// # Errors
    /// [`ErrorKind::ProviderFailed`] where the worker itself ended badly; what it had comes again.
    pub async fn stop(self) -> Result<SubscriptionStats> {
        self.request_stop();
        self.finished().await?;
        Ok(self.stats())
    }

    /// Asks for a stop without waiting for it.
    pub fn request_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the worker has stopped, by [`Subscription::request_stop`] or a failure of its own.
    ///
    /// # Errors
    /// As [`Subscription::stop`].
    pub async fn finished(&self) -> Result<()> {
        let mut health = self.health.clone();
        match health.wait_for(|health| *health == Health::Stopped).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(ErrorKind::ProviderFailed, "the worker ended without stopping")),
        }
    }

    /// How it is doing now.
    pub fn health(&self) -> Health {
        // Without its sender the worker is gone, however it ended.
        match self.health.has_changed() {
            Ok(_) => self.health.borrow().clone(),
            Err(_) => Health::Stopped,
        }
    }

    /// Changes of its health, for those who watch.
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// What it has done so far.
    pub fn stats(&self) -> SubscriptionStats {
        self.progress.stats()
    }
}
