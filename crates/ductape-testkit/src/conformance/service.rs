//! A service on the subject: a client whose catalogue has one topic, on a destination of the property's own.

use super::fixture::Fixture;
use super::outcome::{Outcome, Wanted, cut, fault};
use async_trait::async_trait;
use ductape_core::catalogue::{
    BrokerEntry, Catalogue, EnvEntry, NamedDestination, SessionEntry, TopicEntry, Validation,
};
use ductape_core::client::{Client, DeadLetters, EventPublisher, NewMessage, Receipt, Subscribe};
use ductape_core::session::SessionAlgorithm;
use ductape_core::worker::IntoHandler;
use ductape_core::{
    Broker, ConnectOptions, Destination, Provider, ProviderConfig, ProviderKind, Result, RetryPolicy,
    Subscription, Tag,
};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The one event of the catalogue.
pub(super) const EVENT: &str = "conformance:messages";

/// The one session of the catalogue.
pub(super) const SESSION: &str = "user-session";
/// What signs its tokens.
const SESSION_SECRET: &str = "kept-by-the-conformance-suite-0001";
const SIGNATURE: &str = "zt8s0qUIzLVQnxhstiqK6gqTj6i9fFNFEnnQB0yMFzs";
/// A token of `user-42` that holds until the year 2100, as `{"alg":"HS256","typ":"JWT"}` and
/// `{"userId":"user-42","exp":4102444800}`, signed.
pub(super) const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
    eyJ1c2VySWQiOiJ1c2VyLTQyIiwiZXhwIjo0MTAyNDQ0ODAwfQ.zt8s0qUIzLVQnxhstiqK6gqTj6i9fFNFEnnQB0yMFzs";
/// The same for the year 2001, with the signature of the other.
pub(super) const FORGED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.\
    eyJ1c2VySWQiOiJ1c2VyLTQyIiwiZXhwIjoxMDAwMDAwMDAwfQ.zt8s0qUIzLVQnxhstiqK6gqTj6i9fFNFEnnQB0yMFzs";
/// What of a session must never be seen.
pub(super) const SECRETS: [&str; 2] = [SESSION_SECRET, SIGNATURE];

/// A client, and the fixture moved to where its event leads.
pub(super) struct Service {
    pub(super) client: Client,
    pub(super) f: Fixture,
    pub(super) dead_letters: Destination,
}

impl Service {
    /// A service on the fixture's destination.
    pub(super) async fn open(f: &Fixture) -> Outcome<Self> {
        Self::open_on(f, Arc::clone(&f.target.provider)).await
    }

    /// A service whose connections another provider makes, such as a faulty one over the subject's.
    pub(super) async fn open_on(f: &Fixture, provider: Arc<dyn Provider>) -> Outcome<Self> {
        let catalogue = catalogue(f).wanted("a catalogue of one topic")?;
        let client = Client::memory(catalogue)
            .provider(Registered(provider))
            .connect_options(f.target.options.clone())
            .env("test")
            .build();
        let client = f.within("a client", client).await?;
        let route = f.within("a route", client.route(None, EVENT, None)).await?;
        let dead_letters = route.dead_letters();
        Ok(Service { client, f: f.at(route.destination), dead_letters })
    }

    /// A subscription in the default group.
    pub(super) async fn subscribe<M, H: IntoHandler<M>>(
        &self,
        subscribe: Subscribe,
        handler: H,
    ) -> Outcome<Subscription> {
        self.f.within("a subscription", self.client.broker().subscribe(subscribe, handler)).await
    }

    /// Publishes each of these, and each must be taken.
    pub(super) async fn publish(
        &self,
        messages: impl IntoIterator<Item = NewMessage>,
    ) -> Outcome<Vec<Receipt>> {
        let results = self.publisher().await?.publish_batch(messages).await;
        results.into_iter().map(|result| result.wanted("the message is taken")).collect()
    }

    pub(super) async fn publisher(&self) -> Outcome<EventPublisher> {
        self.f.within("a publisher", self.client.broker().publisher(EVENT, None)).await
    }

    pub(super) async fn letters(&self) -> Outcome<DeadLetters> {
        self.f.within("dead letters", self.client.broker().dead_letters(EVENT, None)).await
    }

    /// Waits until so many dead letters are there.
    pub(super) async fn wait_for_letters(&self, count: usize) -> Outcome<Vec<ductape_core::Message>> {
        let letters = self.letters().await?;
        let (deadline, mut pace) =
            (tokio::time::Instant::now() + self.f.subject.patience, Duration::from_millis(5));
        loop {
            let found = self.f.within("dead letters are listed", letters.list(count + 1)).await?;
            if found.len() >= count {
                return Ok(found);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(fault(format!("{count} dead letters"), format!("{}", found.len())));
            }
            // Nothing tells of a dead letter that comes, so this looks again, ever more slowly.
            tokio::time::sleep(pace).await;
            pace = (pace * 2).min(Duration::from_millis(200));
        }
    }

    pub(super) async fn stop(&self, subscription: Subscription) -> Outcome {
        let what = "the subscription stops";
        self.f.within(what, subscription.stop()).await.map(drop)
    }
}

/// Quick retries, so that a property takes no seconds: three attempts, 10 ms apart.
pub(super) fn quick() -> Subscribe {
    let apart = Duration::from_millis(10);
    let policy = RetryPolicy { attempts: 3, initial: apart, factor: 1.0, max: apart, jitter: 0.0 };
    Subscribe::new(EVENT).retry(policy).drain_timeout(Duration::from_secs(5))
}

fn catalogue(f: &Fixture) -> Result<Catalogue> {
    let (env, kind) = (Tag::new("test")?, f.target.provider.kind());
    let provision = f.destination.provision;
    let named = NamedDestination { env_slug: env.clone(), name: f.destination.name.to_string() };
    let topic = TopicEntry {
        name: "Messages".into(),
        message_broker_tag: None,
        tag: "messages".into(),
        description: None,
        sample: None,
        schema: None,
        validation: Validation::None,
        ordered: f.destination.ordered,
        queue_url: Vec::new(),
        destinations: vec![named],
    };
    let broker = BrokerEntry {
        name: "Conformance".into(),
        tag: Tag::new("conformance")?,
        description: None,
        envs: vec![EnvEntry { slug: env, kind, config: f.target.config.clone(), provision }],
        topics: vec![topic],
    };
    Ok(Catalogue { product: Tag::new(f.name())?, brokers: vec![broker], sessions: vec![session()?] })
}

fn session() -> Result<SessionEntry> {
    Ok(SessionEntry {
        tag: Tag::new(SESSION)?,
        algorithm: SessionAlgorithm::Hs256,
        secret: Some(SESSION_SECRET.into()),
        public_key: None,
        subject: Some("userId".into()),
        issuer: None,
        audience: None,
        leeway: None,
    })
}

/// A shared provider, as the client takes it.
struct Registered(Arc<dyn Provider>);

#[async_trait]
impl Provider for Registered {
    fn kind(&self) -> ProviderKind {
        self.0.kind()
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        self.0.connect(config, options).await
    }
}

/// What handlers wrote down, to be waited for.
#[derive(Clone)]
pub(super) struct Journal<T>(Arc<watch::Sender<Vec<T>>>);

impl<T: Clone + Debug + Send + Sync> Journal<T> {
    pub(super) fn new() -> Self {
        Journal(Arc::new(watch::Sender::new(Vec::new())))
    }

    pub(super) fn write(&self, entry: T) {
        self.0.send_modify(|entries| entries.push(entry));
    }

    pub(super) fn entries(&self) -> Vec<T> {
        self.0.borrow().clone()
    }

    /// The entries as soon as they are such, within the patience.
    pub(super) async fn wait(
        &self,
        f: &Fixture,
        what: &str,
        such: impl FnMut(&Vec<T>) -> bool,
    ) -> Outcome<Vec<T>> {
        let mut entries = self.0.subscribe();
        match tokio::time::timeout(f.subject.patience, entries.wait_for(such)).await {
            Ok(Ok(entries)) => Ok(entries.clone()),
            _ => Err(fault(what, cut(&self.entries()))),
        }
    }

    /// The entries once there are so many.
    pub(super) async fn wait_for(&self, f: &Fixture, count: usize) -> Outcome<Vec<T>> {
        self.wait(f, &format!("{count} calls of the handler"), |entries| entries.len() >= count).await
    }
}
