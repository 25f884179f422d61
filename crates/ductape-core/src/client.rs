//! The client: what a service holds. It knows the catalogue, connects at first use, publishes and subscribes
//! by event, and looks after dead letters.
//!
//! ```text
//!  Publish ─▶ event + env ─▶ Route ─▶ Connection ─▶ ensure ─▶ EventPublisher ─▶ guard ─▶ Publisher
//!  Subscribe ────────────────▶ "  ──────▶ " ────────▶ " ────▶ Subscription (worker) or IncomingStream
//! ```

mod batcher;
mod brokers;
mod connections;
mod dead_letters;
mod incoming;
mod new_message;
mod publish;
mod publisher;
mod sessions;
mod subscribe;

pub use brokers::{Brokers, Topics};
pub use dead_letters::{DeadLetters, LetterCounts, LetterFilter, MAX_SCAN};
pub use incoming::{Incoming, IncomingStream};
pub use new_message::NewMessage;
pub use publish::Publish;
pub use publisher::{EventPublisher, Receipt};
pub use subscribe::Subscribe;

use crate::broker::{ConnectOptions, Inspection, Provider};
use crate::capability::Capabilities;
use crate::catalogue::{Catalogue, Editor, FileStore, MemoryStore, Route, Store};
use crate::config::ProviderKind;
use crate::error::{Error, ErrorKind, Result};
use crate::tag::{Event, Tag};
use connections::{Connection, Connections, located};
use publisher::Target;
use sessions::Sessions;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// Messages under way that one publisher has at most; past them publish waits.
const MAX_PENDING: usize = 16_384;

/// A client of one product's brokers. Cheap to clone; all clones share connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    connections: Connections,
    env: Option<Tag>,
    state: RwLock<State>,
}

/// What follows from the catalogue as it was last read.
#[derive(Default)]
struct State {
    catalogue: Option<(Arc<Catalogue>, Arc<Sessions>)>,
    publishers: HashMap<(String, Tag), EventPublisher>,
}

/// Puts a [`Client`] together.
#[must_use]
pub struct ClientBuilder {
    store: Arc<dyn Store>,
    providers: Vec<Arc<dyn Provider>>,
    options: ConnectOptions,
    env: Option<String>,
}

impl ClientBuilder {
    /// Registers a provider. The last of a kind counts.
    pub fn provider(mut self, provider: impl Provider) -> Self {
        self.providers.push(Arc::new(provider));
        self
    }

    /// The env of everything that names none. Default: `DUCTAPE_ENV`, else `dev` where a broker has it.
    pub fn env(mut self, env: impl Into<String>) -> Self {
        self.env = Some(env.into());
        self
    }

    /// Time limits, the clock, and what relative paths are relative to.
    pub fn connect_options(mut self, options: ConnectOptions) -> Self {
        self.options = options;
        self
    }

    /// Reads the catalogue and makes the client. Nothing is connected yet.
    ///
    /// # Errors
    /// Those of reading the catalogue; `TAG_INVALID` where the env is not a tag.
    pub async fn build(self) -> Result<Client> {
        let env = self.env.or_else(|| std::env::var("DUCTAPE_ENV").ok().filter(|env| !env.is_empty()));
        let client = Client(Arc::new(Inner {
            store: self.store,
            connections: Connections::new(self.providers, self.options),
            env: env.map(Tag::new).transpose()?,
            state: RwLock::default(),
        }));
        client.catalogue().await?;
        Ok(client)
    }
}

impl Client {
    /// A client of the catalogue in this file. Relative paths in it are relative to its folder.
    pub fn file(path: impl AsRef<Path>) -> ClientBuilder {
        let path = path.as_ref();
        let base_dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let options = ConnectOptions { base_dir: base_dir.into(), ..ConnectOptions::default() };
        Self::store(FileStore::new(path)).connect_options(options)
    }

    /// A client of a catalogue that lives in this process alone.
    pub fn memory(catalogue: Catalogue) -> ClientBuilder {
        Self::store(MemoryStore::new(catalogue))
    }

    /// A client of a catalogue kept anywhere.
    pub fn store(store: impl Store) -> ClientBuilder {
        let (store, options) = (Arc::new(store), ConnectOptions::default());
        ClientBuilder { store, providers: Vec::new(), options, env: None }
    }

    /// Brokers: create, update, fetch and delete them, publish and subscribe.
    pub fn broker(&self) -> Brokers<'_> {
        Brokers(self)
    }

    /// The catalogue as it was last read or changed through this client.
    ///
    /// # Errors
    /// Those of [`Store::load`], at the first call.
    pub async fn catalogue(&self) -> Result<Arc<Catalogue>> {
        Ok(self.known().await?.0)
    }

    /// Reads the catalogue anew, for what others changed.
    ///
    /// # Errors
    /// Those of [`Store::load`].
    pub async fn reload(&self) -> Result<()> {
        let catalogue = self.0.store.load().await?.catalogue;
        let base_dir = self.0.connections.options().base_dir.clone();
        let sessions = Arc::new(Sessions::new(&catalogue, base_dir));
        let state = State { catalogue: Some((catalogue, sessions)), publishers: HashMap::new() };
        *self.0.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    /// Changes the catalogue, and forgets what followed from it as it was.
    async fn edit<T>(&self, edit: impl AsyncFnOnce(&Editor) -> Result<T>) -> Result<T> {
        let done = edit(&Editor::new(Arc::clone(&self.0.store))).await?;
        self.reload().await?;
        Ok(done)
    }

    async fn known(&self) -> Result<(Arc<Catalogue>, Arc<Sessions>)> {
        loop {
            if let Some(known) = &self.0.state.read().unwrap_or_else(PoisonError::into_inner).catalogue {
                return Ok(known.clone());
            }
            self.reload().await?;
        }
    }

    /// The kinds of provider that are registered.
    pub fn providers(&self) -> Vec<ProviderKind> {
        self.0.connections.kinds()
    }

    /// Where an event leads in an env, without connecting.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `BROKER_NOT_FOUND`, `BROKER_ENV_NOT_FOUND`, `TOPIC_NOT_FOUND`, each with the tags that exist.
    pub async fn route(&self, product: Option<&str>, event: &str, env: Option<&str>) -> Result<Route> {
        let event: Event = event.parse()?;
        let (catalogue, _) = self.known().await?;
        if let Some(product) = product {
            catalogue.check_product(product)?;
        }
        let env = self.env(&catalogue, &event, env)?;
        catalogue.route(&event, env.as_str())
    }

    /// The env asked for, else the client's, else `dev` where the broker has it.
    fn env(&self, catalogue: &Catalogue, event: &Event, env: Option<&str>) -> Result<Tag> {
        if let Some(env) = env {
            return Tag::new(env);
        }
        if let Some(env) = &self.0.env {
            return Ok(env.clone());
        }
        let broker = catalogue.broker(event.broker().as_str())?;
        if broker.envs.iter().any(|env| env.slug.as_str() == "dev") {
            return Tag::new("dev");
        }
        Err(Error::new(ErrorKind::BrokerEnvNotFound, "no env is named, and there is none called `dev`")
            .with_context("event", event)
            .with_help("name one with `.env(…)`, or set DUCTAPE_ENV"))
    }

    /// Connects a route's broker, without touching its destination.
    async fn connection(&self, route: &Route) -> Result<Arc<Connection>> {
        self.0.connections.get(route).await
    }

    /// A publisher of an event, opened once and kept.
    async fn publisher(
        &self,
        product: Option<&str>,
        event: &str,
        env: Option<&str>,
    ) -> Result<EventPublisher> {
        let cached = match (product, env.or(self.0.env.as_ref().map(Tag::as_str))) {
            (None, Some(env)) => self.cached(event, &Tag::new(env)?),
            _ => None,
        };
        if let Some(publisher) = cached {
            return Ok(publisher);
        }
        let route = self.route(product, event, env).await?;
        if let Some(publisher) = self.cached(route.event.as_str(), &route.env) {
            return Ok(publisher);
        }
        let publisher = self.open_publisher(&route).await.map_err(|error| located(error, &route))?;
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        let is_known = |(catalogue, _): &(Arc<Catalogue>, _)| {
            catalogue.route(&route.event, route.env.as_str()).is_ok_and(|now| now.leads_as(&route))
        };
        // The catalogue may have been changed meanwhile.
        if !state.catalogue.as_ref().is_some_and(is_known) {
            return Ok(publisher);
        }
        let key = (route.event.as_str().to_owned(), route.env.clone());
        Ok(state.publishers.entry(key).or_insert(publisher).clone())
    }

    fn cached(&self, event: &str, env: &Tag) -> Option<EventPublisher> {
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
        state.publishers.get(&(event.to_owned(), env.clone())).cloned()
    }

    async fn open_publisher(&self, route: &Route) -> Result<EventPublisher> {
        let (_, sessions) = self.known().await?;
        let connection = self.connection(route).await?;
        let guard =
            crate::guard::Guard::new(route.config.kind(), connection.broker.capabilities(&route.destination));
        guard.ordering(&route.destination)?;
        connection.ensure(&route.destination).await?;
        let publisher = connection.within(connection.broker.publisher(&route.destination)).await?;
        let options = self.0.connections.options();
        let target = Target {
            product: route.product.clone(),
            event: route.event.clone(),
            env: route.env.clone(),
            kind: route.config.kind(),
            guard,
            rule: route.topic.rule()?,
            sessions,
            clock: options.clock.clone(),
            max_pending: MAX_PENDING,
            deadline: options.request_timeout,
        };
        Ok(EventPublisher::new(publisher, target))
    }

    /// What the provider of an event can do there.
    ///
    /// # Errors
    /// Those of [`Client::route`] and of connecting.
    pub async fn capabilities(&self, event: &str, env: Option<&str>) -> Result<Capabilities> {
        let route = self.route(None, event, env).await?;
        Ok(self.connection(&route).await?.broker.capabilities(&route.destination))
    }

    /// Looks at an event's destination: what it keeps, its groups with their lag and what they have in hand,
    /// and how many dead letters there are. Touches nothing.
    ///
    /// # Errors
    /// Those of [`Client::route`] and of connecting; `DESTINATION_NOT_FOUND`.
    pub async fn inspect(&self, event: &str, env: Option<&str>) -> Result<EventInspection> {
        let route = self.route(None, event, env).await?;
        let inspect = async {
            let connection = self.connection(&route).await?;
            let broker = &connection.broker;
            let destination = connection.within(broker.inspect(&route.destination)).await?;
            let dead_letters = match connection.within(broker.inspect(&route.dead_letters())).await {
                Ok(inspection) => inspection.groups.iter().map(|group| group.lag).sum(),
                Err(error) if error.kind() == ErrorKind::DestinationNotFound => Some(0),
                Err(error) => return Err(error),
            };
            Ok(EventInspection { destination, dead_letters })
        };
        inspect.await.map_err(|error| located(error, &route))
    }

    /// One round trip to the provider of an event.
    ///
    /// # Errors
    /// Those of [`Client::route`], of connecting, and of [`crate::Broker::ping`].
    pub async fn ping(&self, event: &str, env: Option<&str>) -> Result<()> {
        let route = self.route(None, event, env).await?;
        let connection = self.connection(&route).await?;
        connection.within(connection.broker.ping()).await.map_err(|error| located(error, &route))
    }

    /// Makes an event's destination and default group where they are not there, so that what is published from
    /// now on waits.
    ///
    /// # Errors
    /// Those of [`Client::route`], of connecting, and of [`crate::Broker::ensure`].
    pub async fn ensure(&self, event: &str, env: Option<&str>) -> Result<()> {
        let route = self.route(None, event, env).await?;
        let connection = self.connection(&route).await?;
        connection.ensure(&route.destination).await.map_err(|error| located(error, &route))
    }

    /// Forgets a group of an event and what waits for it.
    ///
    /// # Errors
    /// `GROUP_NOT_FOUND`; `UNSUPPORTED`; those of [`Client::route`] and of connecting.
    pub async fn delete_group(&self, event: &str, env: Option<&str>, group: &str) -> Result<()> {
        let route = self.route(None, event, env).await?;
        let connection = self.connection(&route).await?;
        let deleted = connection.within(connection.broker.delete_group(&route.destination, group)).await;
        // It may have been the default group, which the next use makes again.
        connection.forget(&route.destination);
        let key = (route.event.as_str().to_owned(), route.env.clone());
        self.0.state.write().unwrap_or_else(PoisonError::into_inner).publishers.remove(&key);
        deleted.map_err(|error| located(error, &route).with_context("group", group))
    }

    /// Closes every connection. Subscriptions should be stopped first; what they have in hand comes again. All
    /// clones of the client are closed with it: what they are asked afterwards is refused as `CLOSED`.
    ///
    /// # Errors
    /// The first of [`crate::Broker::close`].
    pub async fn close(&self) -> Result<()> {
        self.0.state.write().unwrap_or_else(PoisonError::into_inner).publishers.clear();
        self.0.connections.close().await
    }
}

/// What [`Client::inspect`] saw.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventInspection {
    /// The destination and its groups.
    pub destination: Inspection,
    /// Dead letters that wait.
    pub dead_letters: Option<u64>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("env", &self.0.env)
            .field("providers", &self.providers())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("env", &self.env).finish_non_exhaustive()
    }
}
