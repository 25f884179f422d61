//! What everything opened on one connection shares: one producer, which also asks for metadata; a client for making
//! and deleting; a few that look after the offsets of groups.

use crate::consumer::Handle;
use crate::error;
use crate::producer::Producer;
use crate::settings::Settings;
use crate::signals::Signal;
use ductape_core::config::KafkaConfig;
use ductape_core::error::Retry;
use ductape_core::{ConnectOptions, Error, ErrorKind, Result};
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Clients for the offsets of groups that are kept, the last used last.
const MAX_GROUPS: usize = 4;
/// How often a connection that is being made is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// What publishes under way have left when the connection is closed.
const FLUSH: Duration = Duration::from_secs(2);

/// The ends of a connection. It has no `Debug`: its settings hold the password.
pub(crate) struct Link {
    pub(crate) settings: Settings,
    /// How long one call may take.
    pub(crate) limit: Duration,
    pub(crate) partitions: Option<i32>,
    pub(crate) replication: Option<i16>,
    producer: Mutex<Option<Arc<Producer>>>,
    admin: Mutex<Option<Arc<AdminClient<DefaultClientContext>>>>,
    groups: Mutex<VecDeque<(String, Arc<BaseConsumer>)>>,
    opened: Mutex<Opened>,
    closed: AtomicBool,
}

/// What was opened here, for `inspect` and for the close.
#[derive(Default)]
struct Opened {
    consumers: Vec<Weak<Handle>>,
    groups: BTreeSet<(Arc<str>, Arc<str>)>,
}

impl Link {
    /// Connects, within the time that connecting has. Blocks.
    ///
    /// # Errors
    /// Those of connecting, by what the client library said of it.
    pub(crate) fn connect(config: &KafkaConfig, options: &ConnectOptions) -> Result<Self> {
        let deadline = Instant::now() + options.connect_timeout;
        let settings = Settings::new(config, options)?;
        let producer = Producer::new(&settings)?;
        reach(&producer, &settings.brokers, deadline)?;
        Ok(Link {
            settings,
            limit: options.request_timeout,
            partitions: config.partitions,
            replication: config.replication,
            producer: Mutex::new(Some(Arc::new(producer))),
            admin: Mutex::default(),
            groups: Mutex::default(),
            opened: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// The producer, also one that takes no more messages: it still asks for metadata.
    ///
    /// # Errors
    /// `CLOSED`.
    pub(crate) fn producer(&self) -> Result<Arc<Producer>> {
        self.check_open("the connection")?;
        lock(&self.producer).clone().ok_or_else(|| error::closed("the connection"))
    }

    /// A producer that takes messages, made anew where the last one met a fatal error.
    ///
    /// # Errors
    /// `CLOSED`.
    pub(crate) fn unbroken_producer(&self) -> Result<Arc<Producer>> {
        let mut slot = lock(&self.producer);
        let producer = slot.clone().ok_or_else(|| error::closed("the publisher"))?;
        if !producer.is_broken() {
            return Ok(producer);
        }
        let fresh = Arc::new(Producer::new(&self.settings)?);
        *slot = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// The client that makes and deletes.
    ///
    /// # Errors
    /// `CLOSED`; `PROVIDER_FAILED` where it cannot start.
    pub(crate) fn admin(&self) -> Result<Arc<AdminClient<DefaultClientContext>>> {
        self.check_open("the connection")?;
        let mut slot = lock(&self.admin);
        if let Some(admin) = &*slot {
            return Ok(Arc::clone(admin));
        }
        let created: Result<AdminClient<_>, _> = self.settings.admin().create();
        let admin = Arc::new(created.map_err(|error| error::call(&error, "the admin client", false))?);
        Ok(Arc::clone(slot.insert(admin)))
    }

    /// A client for the offsets of a group, which is no member of it.
    ///
    /// # Errors
    /// `CLOSED`; `PROVIDER_FAILED` where it cannot start.
    pub(crate) fn group(&self, group: &str) -> Result<Arc<BaseConsumer>> {
        self.check_open("the connection")?;
        let mut groups = lock(&self.groups);
        if let Some(place) = groups.iter().position(|(name, _)| name == group) {
            let entry = groups.remove(place);
            groups.extend(entry);
        } else {
            let created: Result<BaseConsumer, _> = self.settings.group(group).create();
            let client = created.map_err(|error| error::call(&error, "the client of a group", false))?;
            groups.push_back((group.to_owned(), Arc::new(client)));
        }
        let surplus = (groups.len() > MAX_GROUPS).then(|| groups.pop_front());
        let client = groups.back().map(|(_, client)| Arc::clone(client));
        drop(groups);
        discard(surplus);
        client.ok_or_else(|| error::closed("the connection"))
    }

    /// # Errors
    /// `CLOSED`.
    pub(crate) fn check_open(&self, what: &str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(error::closed(what)) } else { Ok(()) }
    }

    /// Remembers a group of a topic.
    pub(crate) fn know(&self, topic: &Arc<str>, group: &Arc<str>) {
        lock(&self.opened).groups.insert((Arc::clone(topic), Arc::clone(group)));
    }

    pub(crate) fn forget(&self, topic: &str, group: &str) {
        lock(&self.opened).groups.retain(|(t, g)| (&**t, &**g) != (topic, group));
    }

    /// The groups of a topic that were opened on this connection.
    pub(crate) fn known(&self, topic: &str) -> Vec<Arc<str>> {
        let opened = lock(&self.opened);
        opened.groups.iter().filter(|(t, _)| **t == *topic).map(|(_, group)| Arc::clone(group)).collect()
    }

    /// Remembers a consumer, which is closed with the connection.
    pub(crate) fn enlist(&self, handle: &Arc<Handle>) {
        let mut opened = lock(&self.opened);
        opened.consumers.retain(|handle| handle.strong_count() > 0);
        opened.consumers.push(Arc::downgrade(handle));
    }

    /// The consumers of this connection that are there.
    pub(crate) fn consumers(&self) -> Vec<Arc<Handle>> {
        lock(&self.opened).consumers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Closes what was opened here. What is under way gets a moment to end.
    pub(crate) async fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let closing = self.consumers().into_iter().map(|handle| async move { handle.close().await });
        futures_util::future::join_all(closing).await;
        let producer = lock(&self.producer).take();
        let rest = (lock(&self.admin).take(), std::mem::take(&mut *lock(&self.groups)));
        discard(rest);
        let Some(producer) = producer else { return Ok(()) };
        let flushed = tokio::task::spawn_blocking(move || producer.flush(FLUSH));
        flushed.await.map_err(|error| Error::new(ErrorKind::ProviderFailed, "the close").with_source(error))
    }

    /// A call to the cluster on a thread that may block, within the time that a call has and a little more.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        call: impl FnOnce(&Arc<Link>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.check_open("the connection")?;
        let link = Arc::clone(self);
        let ended = tokio::task::spawn_blocking(move || call(&link)).await;
        ended.map_err(|error| {
            Error::new(ErrorKind::ProviderFailed, "a call to the client library").with_source(error)
        })?
    }

    /// A failed call, with the cluster's address; where it only timed out, with what the client said last.
    pub(crate) fn failed(&self, error: &KafkaError, what: &str, sent: bool) -> Error {
        let told = error::call(error, what, sent).with_context("server", &self.settings.brokers);
        let last = lock(&self.producer).as_ref().and_then(|it| it.reports().signals.last().clone());
        match (told.kind(), last) {
            (ErrorKind::Timeout | ErrorKind::ConnectionLost, Some(Signal { reason, .. })) => {
                told.with_context("last heard", reason)
            }
            _ => told,
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drops clients on a thread of their own, since their end waits for their threads.
pub(crate) fn discard<T: Send + 'static>(clients: T) {
    let dropped = std::thread::Builder::new().name("ductape-kafka-end".into()).spawn(move || drop(clients));
    if let Err(error) = dropped {
        tracing::debug!(%error, "no thread for the end of a client");
    }
}

/// Waits until the cluster has told its id, or until it is certain that it will not.
fn reach(producer: &Producer, brokers: &str, deadline: Instant) -> Result<()> {
    let signals = &producer.reports().signals;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if producer.client().fetch_cluster_id(LOOK.min(left)).is_some() {
            return Ok(());
        }
        let last = signals.last().clone();
        match last {
            Some(signal)
                if signal.all_down || error::is_final(signal.code, &signal.reason) || left.is_zero() =>
            {
                return Err(signal.connect_error(brokers));
            }
            None if left.is_zero() => {
                return Err(Error::new(ErrorKind::Timeout, "cannot connect to Kafka: no answer in time")
                    .with_retry(Retry::Safe)
                    .with_context("server", brokers)
                    .with_help(error::SILENT));
            }
            _ => {}
        }
    }
}
