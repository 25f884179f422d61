//! A broker for the tests of services: MEMORY, with what was published, acknowledged, retried and dead-lettered to
//! assert on, and a clock that the test moves.
//!
//! ```text
//!  the service under test ─▶ Ductape ─▶ recorder ─▶ MEMORY          test ─▶ TestBroker: until(…), seen(), clock()
//!                                          └──────────── Seen ────────────────▲
//! ```
//!
//! ```
//! use ductape_core::catalogue::Catalogue;
//! use ductape_core::client::{Client, Publish, Subscribe};
//! use ductape_core::{Delivery, Failure, ProviderKind};
//! use ductape_testkit::testing::TestBroker;
//! use std::time::Duration;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! // The service's own catalogue: its env `dev` is SQLITE, which the test broker stands in for.
//! let catalogue = Catalogue::from_yaml("
//!     product: shop
//!     brokers:
//!       - name: Orders
//!         tag: orders
//!         envs: [{ slug: dev, type: SQLITE, config: { path: dev.db } }]
//!         topics: [{ name: New, tag: new }]
//! ")?;
//! let test = TestBroker::in_place_of(ProviderKind::Sqlite);
//! let client = Client::memory(catalogue)
//!     .provider(test.provider())
//!     .connect_options(test.connect_options())
//!     .build()
//!     .await?;
//!
//! let handler = |delivery: Delivery| async move {
//!     if delivery.attempt == 1 { Err(Failure::retry("the shop is closed")) } else { Ok(()) }
//! };
//! let subscription = client.broker().subscribe(Subscribe::new("orders:new"), handler).await?;
//! client.broker().publish(Publish::new("orders:new").payload("one").key("k")).await?;
//!
//! let seen = test.until("the retry", |seen| seen.retried("orders:new").count() == 1).await;
//! assert_eq!(seen.retried("orders:new").next().unwrap().reason, "the shop is closed");
//! test.clock().advance(Duration::from_secs(300)); // past the backoff
//! test.until("the acknowledgement", |seen| seen.acked("orders:new").count() == 1).await;
//! subscription.stop().await?;
//! # Ok::<(), ductape_core::Error>(())
//! # }).unwrap();
//! ```
//!
//! What holds:
//! - Two test brokers share nothing, so that tests may run at once.
//! - Time stands still until the test moves it, for backoff, handlers' time limits and delays alike. Leases never end.
//! - What is seen is kept until the test broker and its clients are gone: it is for tests, not for load.

mod recorder;

use ductape_core::delivery::OnRetry;
use ductape_core::{Clock, ConnectOptions, Delivery, Message, Provider, ProviderKind, Timestamp};
use ductape_memory::MemoryProvider;
use recorder::RecordingProvider;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long [`TestBroker::until`] waits, by the real clock.
const PATIENCE: Duration = Duration::from_secs(10);
/// 2024-01-01T00:00:00Z: where a test's time begins.
const START: Timestamp = Timestamp::from_micros(1_704_067_200_000_000);

/// A broker to assert on. Give a client its [`provider`](Self::provider) and its
/// [`connect_options`](Self::connect_options).
pub struct TestBroker {
    memory: MemoryProvider,
    kind: ProviderKind,
    clock: Clock,
    record: Arc<Record>,
}

/// A retry that a worker decided on.
#[derive(Clone, Debug)]
pub struct Retried {
    /// The delivery, with the number of the attempt that failed.
    pub delivery: Delivery,
    /// Why it failed.
    pub reason: String,
    /// How long the next attempt waits, by the test's clock.
    pub delay: Duration,
}

/// What went through a [`TestBroker`] so far, each in its order. Events are given as they are published, such as
/// `orders:new`.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    published: Vec<Message>,
    acked: Vec<Message>,
    retried: Vec<Retried>,
    released: Vec<Message>,
    dead_lettered: Vec<Message>,
}

/// What the recorder writes and the test reads.
struct Record {
    seen: Mutex<Seen>,
    grown: watch::Sender<()>,
}

impl Default for TestBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl TestBroker {
    /// One for catalogues whose env says MEMORY.
    pub fn new() -> Self {
        Self::in_place_of(ProviderKind::Memory)
    }

    /// One that stands in for this provider, whatever its config says, so that a service's own catalogue is tested.
    /// References to secrets in that config are resolved all the same.
    pub fn in_place_of(kind: ProviderKind) -> Self {
        let record = Record { seen: Mutex::default(), grown: watch::Sender::new(()) };
        let (memory, clock) = (MemoryProvider::isolated(), Clock::manual(START));
        TestBroker { memory, kind, clock, record: Arc::new(record) }
    }

    /// The provider to register.
    pub fn provider(&self) -> impl Provider + use<> {
        RecordingProvider::new(self.memory.clone(), self.kind, Arc::clone(&self.record))
    }

    /// The options to connect with: they hold the clock, and tell this test broker of retries.
    pub fn connect_options(&self) -> ConnectOptions {
        let record = Arc::clone(&self.record);
        let on_retry = OnRetry::new(move |delivery, reason, delay| {
            let retried = Retried { delivery: delivery.clone(), reason: reason.to_owned(), delay };
            record.add(|seen| seen.retried.push(retried));
        });
        ConnectOptions { clock: self.clock.clone(), on_retry, ..ConnectOptions::default() }
    }

    /// The clock that everything timed asks. It begins at 2024-01-01T00:00:00Z and stands still.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What went through so far.
    pub fn seen(&self) -> Seen {
        self.record.lock().clone()
    }

    /// Waits until what went through is enough, and returns it.
    ///
    /// # Panics
    /// Where it is not enough within ten seconds of real time; the panic says `what` was waited for, and what was seen.
    #[track_caller]
    pub fn until(&self, what: &str, enough: impl Fn(&Seen) -> bool) -> impl Future<Output = Seen> {
        let caller = std::panic::Location::caller();
        async move {
            let mut grown = self.record.grown.subscribe();
            let wait = async {
                while !enough(&self.record.lock()) {
                    // The sender lives as long as `self`.
                    let _ = grown.changed().await;
                }
            };
            let in_time = tokio::time::timeout(PATIENCE, wait).await.is_ok();
            let seen = self.seen();
            assert!(in_time, "{caller}: not within {PATIENCE:?}: {what}; seen were {}", seen.counts());
            seen
        }
    }
}

impl fmt::Debug for TestBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestBroker").field("in_place_of", &self.kind).field("seen", &self.seen()).finish()
    }
}

impl Seen {
    /// What was published to this event and taken.
    pub fn published(&self, event: &str) -> impl Iterator<Item = &Message> {
        of(&self.published, event)
    }

    /// What handlers finished: acknowledged, or discarded. A message is here once for each group.
    pub fn acked(&self, event: &str) -> impl Iterator<Item = &Message> {
        of(&self.acked, event)
    }

    /// Failed attempts that are made again.
    pub fn retried(&self, event: &str) -> impl Iterator<Item = &Retried> {
        self.retried.iter().filter(move |retried| retried.delivery.message.event() == event)
    }

    /// What was given back untried, as at a stop.
    pub fn released(&self, event: &str) -> impl Iterator<Item = &Message> {
        of(&self.released, event)
    }

    /// What went to the dead letters; [`Message::dead_letter`] says why.
    pub fn dead_lettered(&self, event: &str) -> impl Iterator<Item = &Message> {
        of(&self.dead_lettered, event)
    }

    fn counts(&self) -> String {
        format!(
            "{} published, {} acknowledged, {} retried, {} released, {} dead-lettered",
            self.published.len(),
            self.acked.len(),
            self.retried.len(),
            self.released.len(),
            self.dead_lettered.len()
        )
    }
}

fn of<'s>(messages: &'s [Message], event: &str) -> impl Iterator<Item = &'s Message> {
    messages.iter().filter(move |message| message.event() == event)
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, add: impl FnOnce(&mut Seen)) {
        add(&mut self.lock());
        self.grown.send_replace(());
    }
}
