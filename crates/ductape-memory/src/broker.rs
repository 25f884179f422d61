//! Connecting: who shares what, what a connection can do, and its end.

use crate::consumer::{Membership, MemoryConsumer};
use crate::error;
use crate::log::Limits;
use crate::message::{MAX_DELAY, MAX_MESSAGE_BYTES};
use crate::publisher::MemoryPublisher;
use crate::store::{Registry, Store, lock};
use async_trait::async_trait;
use ductape_core::broker::Inspection;
use ductape_core::capability::{
    Attempts, Batching, Delay, Durability, Groups, HeaderNames, HeaderValues, Ordering, Replay,
};
use ductape_core::config::{MemoryConfig, ProviderConfig};
use ductape_core::{
    Broker, Capabilities, Clock, ConnectOptions, Consumer, ConsumerOptions, Destination, Error, Provider,
    ProviderKind, Publisher, Result,
};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering as Atomic};
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::Duration;
use tokio::sync::Notify;

static PROCESS: LazyLock<Arc<Registry>> = LazyLock::new(Arc::default);

/// Makes connections of `type: MEMORY`. Cheap to clone; clones share their messages.
///
/// Connections with the same [`MemoryConfig::name`] share messages, and these outlive every connection: they
/// are kept until the process ends, [`MemoryProvider::reset`], or, of an isolated provider, its last clone
/// and its last connection are gone.
#[derive(Clone)]
pub struct MemoryProvider(Arc<Registry>);

impl MemoryProvider {
    /// The provider of this process: every one made so shares its messages by the config's name.
    pub fn new() -> Self {
        MemoryProvider(Arc::clone(&PROCESS))
    }

    /// A provider that shares nothing with others, whatever name the config says. For tests that run at once.
    pub fn isolated() -> Self {
        MemoryProvider(Arc::default())
    }

    /// Forgets all messages, groups and destinations of this name. Connections that are open keep theirs
    /// among themselves; those made afterwards begin with nothing.
    pub fn reset(&self, name: &str) {
        self.0.forget(name);
    }
}

impl Default for MemoryProvider {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryProvider").field("isolated", &!Arc::ptr_eq(&self.0, &PROCESS)).finish()
    }
}

#[async_trait]
impl Provider for MemoryProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Memory
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        let ProviderConfig::Memory(config) = config else {
            let message = format!("a config of {} was given to MEMORY", config.kind());
            return Err(error::config(message, "give each provider a config of its own `type`"));
        };
        check(config)?;
        Ok(Arc::new(MemoryBroker(Arc::new(Connection {
            store: self.0.open(&config.name),
            limits: Limits::from(config),
            clock: options.clock.clone(),
            patience: options.request_timeout,
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            members: Mutex::default(),
        }))))
    }
}

fn check(config: &MemoryConfig) -> Result<()> {
    let fault = match config {
        MemoryConfig { max_messages: 0, .. } => "maxMessages",
        MemoryConfig { max_bytes: 0, .. } => "maxBytes",
        _ => return Ok(()),
    };
    Err(error::config(format!("`{fault}` is 0: no message would fit"), "leave it out, or say at least 1"))
}

/// What a connection and everything opened on it share.
pub(crate) struct Connection {
    pub(crate) store: Arc<Store>,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    /// How long a publish waits for room.
    pub(crate) patience: Duration,
    closed: AtomicBool,
    closing: Notify,
    members: Mutex<Vec<Weak<Membership>>>,
}

impl Connection {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Atomic::Acquire)
    }

    /// Waits for the connection's close.
    pub(crate) async fn closed(&self) {
        let mut closing = std::pin::pin!(self.closing.notified());
        // Registered before the flag is read, so that a close in between is not missed.
        closing.as_mut().enable();
        if !self.is_closed() {
            closing.await;
        }
    }

    fn check_open(&self) -> Result<()> {
        match self.is_closed() {
            true => Err(Error::closed("the connection").with_context("provider", ProviderKind::Memory)),
            false => Ok(()),
        }
    }

    fn adopt(&self, member: &Arc<Membership>) {
        let mut members = lock(&self.members);
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
    }

    fn close(&self) {
        self.closed.store(true, Atomic::Release);
        self.closing.notify_waiters();
        let members = std::mem::take(&mut *lock(&self.members));
        members.iter().filter_map(Weak::upgrade).for_each(|member| member.leave());
    }
}

/// A connection.
pub(crate) struct MemoryBroker(pub(crate) Arc<Connection>);

#[async_trait]
impl Broker for MemoryBroker {
    fn capabilities(&self, _: &Destination) -> Capabilities {
        Capabilities {
            ordering: Ordering::PerKey,
            groups: Groups::Many,
            replay: Replay::Kept,
            delay: Delay::UpTo(MAX_DELAY),
            attempts: Attempts::Counted,
            durability: Durability::Process,
            batching: Batching::Provider,
            header_values: HeaderValues::Bytes,
            header_names: HeaderNames::Repeatable,
            max_headers: None,
            max_message_bytes: MAX_MESSAGE_BYTES.min(self.0.limits.max_bytes),
        }
    }

    async fn ensure(&self, destination: &Destination) -> Result<()> {
        self.0.check_open()?;
        self.ensure_now(destination)
    }

    async fn inspect(&self, destination: &Destination) -> Result<Inspection> {
        self.0.check_open()?;
        self.inspect_now(destination)
    }

    async fn publisher(&self, destination: &Destination) -> Result<Arc<dyn Publisher>> {
        self.0.check_open()?;
        let place = self.0.store.get(&destination.name)?;
        Ok(Arc::new(MemoryPublisher::new(Arc::clone(&self.0), place)))
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        self.0.check_open()?;
        let place = self.0.store.get(&destination.name)?;
        let member = Membership::join(place, options, self.0.clock.clone());
        self.0.adopt(&member);
        // A close that did not see the new member yet has set its flag before.
        if let Err(closed) = self.0.check_open() {
            member.leave();
            return Err(closed);
        }
        Ok(Arc::new(MemoryConsumer(member)))
    }

    async fn delete_group(&self, destination: &Destination, group: &str) -> Result<()> {
        self.0.check_open()?;
        self.delete_group_now(destination, group)
    }

    async fn ping(&self) -> Result<()> {
        self.0.check_open()
    }

    async fn close(&self) -> Result<()> {
        self.0.close();
        Ok(())
    }
}
