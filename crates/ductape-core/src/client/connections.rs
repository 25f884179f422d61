//! The connections of one client: one a broker and env, made at first use and shared from then on.

use crate::broker::{Broker, ConnectOptions, Destination, Provider};
use crate::catalogue::Route;
use crate::config::{ProviderConfig, ProviderKind};
use crate::error::{Error, ErrorKind, Result};
use crate::tag::Tag;
use crate::worker::within;
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// A broker's tag and an env.
type Address = (Tag, Tag);

/// A connection, and which of its destinations are known to be there.
pub(super) struct Connection {
    pub(super) broker: Arc<dyn Broker>,
    deadline: Duration,
    /// A cell each, so that one that takes long does not hold up the others.
    ensured: Mutex<HashMap<Destination, Arc<OnceCell<()>>>>,
}

pub(super) struct Connections {
    providers: HashMap<ProviderKind, Arc<dyn Provider>>,
    options: ConnectOptions,
    /// What each was made from. One whose config has changed since stays open for those who use it, until the close.
    open: Mutex<HashMap<Address, Vec<(ProviderConfig, Cell)>>>,
    closed: AtomicBool,
}

/// One each, so that connecting to one does not hold up the others.
type Cell = Arc<OnceCell<Arc<Connection>>>;

impl Connections {
    pub(super) fn new(providers: Vec<Arc<dyn Provider>>, options: ConnectOptions) -> Self {
        let providers = providers.into_iter().map(|provider| (provider.kind(), provider)).collect();
        Connections { providers, options, open: Mutex::default(), closed: AtomicBool::new(false) }
    }

    pub(super) fn options(&self) -> &ConnectOptions {
        &self.options
    }

    pub(super) fn kinds(&self) -> Vec<ProviderKind> {
        let mut kinds: Vec<_> = self.providers.keys().copied().collect();
        kinds.sort_unstable();
        kinds
    }

    /// The connection of a route, made where it is not there yet.
    pub(super) async fn get(&self, route: &Route) -> Result<Arc<Connection>> {
        let address = (route.event.broker().clone(), route.env.clone());
        let cell = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if self.closed.load(Ordering::Acquire) {
                return Err(closed());
            }
            let made = open.entry(address).or_default();
            match made.iter().find(|(config, _)| *config == route.config) {
                Some((_, cell)) => Arc::clone(cell),
                None => {
                    made.push((route.config.clone(), Cell::default()));
                    Arc::clone(&made[made.len() - 1].1)
                }
            }
        };
        let connection = cell.get_or_try_init(|| self.connect(route)).await;
        let connection = connection.cloned().map_err(|error| located(error, route))?;
        if self.closed.load(Ordering::Acquire) {
            // It was being made when all others were closed. What comes of it nobody waits for.
            let _ = connection.within(connection.broker.close()).await;
            return Err(closed());
        }
        Ok(connection)
    }

    async fn connect(&self, route: &Route) -> Result<Arc<Connection>> {
        let kind = route.config.kind();
        let provider = self.providers.get(&kind).ok_or_else(|| not_enabled(kind))?;
        let config = route.config.resolve(&self.options.base_dir)?;
        let connecting = provider.connect(&config, &self.options);
        let broker = match tokio::time::timeout(self.options.connect_timeout, connecting).await {
            Ok(broker) => broker?,
            Err(_) => return Err(too_slow(&self.options)),
        };
        tracing::debug!(provider = %kind, env = %route.env, broker = %route.event.broker(), "connected");
        let deadline = self.options.request_timeout;
        Ok(Arc::new(Connection { broker, deadline, ensured: Mutex::default() }))
    }

    /// Closes every connection, and makes no more; the first error is told, after all had their turn.
    pub(super) async fn close(&self) -> Result<()> {
        let open = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            self.closed.store(true, Ordering::Release);
            std::mem::take(&mut *open)
        };
        let mut result = Ok(());
        for connection in open.into_values().flatten().filter_map(|(_, cell)| cell.get().cloned()) {
            result = result.and(connection.within(connection.broker.close()).await);
        }
        result
    }
}

impl Connection {
    /// Sees to it, once, that a destination is there.
    pub(super) async fn ensure(&self, destination: &Destination) -> Result<()> {
        let cell = {
            let mut ensured = self.ensured.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(ensured.entry(destination.clone()).or_default())
        };
        cell.get_or_try_init(|| self.within(self.broker.ensure(destination))).await.copied()
    }

    /// Lets the next use see to it again that a destination is there.
    pub(super) fn forget(&self, destination: &Destination) {
        self.ensured.lock().unwrap_or_else(PoisonError::into_inner).remove(destination);
    }

    /// A call to the broker, with the deadline that every call has.
    pub(super) async fn within<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        within(self.deadline, call).await
    }
}

/// Adds where it happened.
pub(super) fn located(error: Error, route: &Route) -> Error {
    error
        .with_context("event", &route.event)
        .with_context("env", &route.env)
        .with_context("provider", route.config.kind())
}

fn closed() -> Error {
    Error::closed("the client").with_help("open another")
}

fn not_enabled(kind: ProviderKind) -> Error {
    let feature = kind.feature();
    Error::new(ErrorKind::ProviderNotEnabled, format!("{kind} is not compiled in")).with_help(format!(
        "add the feature: `ductape = {{ features = [\"{feature}\"] }}`, or `--features {feature}` for the tool"
    ))
}

fn too_slow(options: &ConnectOptions) -> Error {
    Error::new(ErrorKind::Timeout, format!("no connection within {:?}", options.connect_timeout))
        .with_retry(crate::error::Retry::Safe)
        .with_help("see that the server is up and reachable from here")
}
