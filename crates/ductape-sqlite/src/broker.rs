//! Connecting to a file.

use crate::admin::{DeleteGroup, Ensure, Find, Inspect, Ping};
use crate::consumer::SqliteConsumer;
use crate::error;
use crate::file::SharedFile;
use crate::members::Join;
use crate::message::{MAX_DELAY, MAX_MESSAGE_BYTES};
use crate::publisher::SqlitePublisher;
use async_trait::async_trait;
use ductape_core::broker::Inspection;
use ductape_core::capability::{
    Attempts, Batching, Capabilities, Delay, Durability, Groups, HeaderNames, HeaderValues, Ordering, Replay,
};
use ductape_core::config::{self, SqliteConfig};
use ductape_core::{
    Broker, Clock, ConnectOptions, Consumer, ConsumerOptions, Destination, Provider, ProviderConfig,
    ProviderKind, Publisher, Result, duration,
};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Makes connections to SQLite files (`type: SQLITE`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SqliteProvider;

/// What everything opened on one connection shares.
pub(crate) struct Link {
    /// `None` once the connection is closed.
    file: Mutex<Option<Arc<SharedFile>>>,
    /// What is to leave with the connection.
    consumers: Mutex<Vec<Weak<SqliteConsumer>>>,
    pub(crate) path: PathBuf,
    pub(crate) settings: Settings,
}

/// What the config and the connect options say.
pub(crate) struct Settings {
    pub(crate) full: bool,
    pub(crate) max_bytes: Option<i64>,
    pub(crate) retain: Option<Duration>,
    pub(crate) clock: Clock,
    /// How long one request may take.
    pub(crate) limit: Duration,
    /// How long the writer waits for another process's lock: less long than the caller waits for the answer.
    patience: Duration,
}

struct SqliteBroker(Arc<Link>);

#[async_trait]
impl Provider for SqliteProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Sqlite
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        let ProviderConfig::Sqlite(config) = config else {
            let message = format!("this is a config of {}", config.kind());
            return Err(error::config(message, "give SQLITE a config with `path`"));
        };
        Ok(Arc::new(SqliteBroker(Arc::new(Link::open(config, options).await?))))
    }
}

impl Settings {
    fn new(config: &SqliteConfig, options: &ConnectOptions) -> Result<Self> {
        Ok(Settings {
            full: config.durability == config::Durability::Full,
            max_bytes: config.max_bytes.map(|most| i64::try_from(most).unwrap_or(i64::MAX)),
            retain: config.retain.as_deref().map(duration::parse).transpose()?,
            clock: options.clock.clone(),
            limit: options.request_timeout,
            patience: options.request_timeout.min(options.connect_timeout).mul_f32(0.8),
        })
    }
}

impl Link {
    async fn open(config: &SqliteConfig, options: &ConnectOptions) -> Result<Self> {
        let settings = Settings::new(config, options)?;
        let file = SharedFile::open(&options.base_dir.join(&config.path), settings.patience)?;
        file.ask(Ping, options.connect_timeout).await?;
        Ok(Link {
            path: file.path.clone(),
            file: Mutex::new(Some(file)),
            consumers: Mutex::default(),
            settings,
        })
    }

    /// The file, while the connection is open. `what` is what was used.
    ///
    /// # Errors
    /// `CLOSED`.
    pub(crate) fn file(&self, what: &str) -> Result<Arc<SharedFile>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let open = file.as_mut().ok_or_else(|| error::closed(what))?;
        if open.queue.is_closed() {
            // Its thread panicked. What it had under way is told to have failed; what is asked now goes to another.
            *open = SharedFile::open(&self.path, self.settings.patience)?;
        }
        Ok(Arc::clone(open))
    }

    fn consumers(&self) -> MutexGuard<'_, Vec<Weak<SqliteConsumer>>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SqliteBroker {
    fn file(&self) -> Result<Arc<SharedFile>> {
        self.0.file("the connection")
    }

    fn limit(&self) -> Duration {
        self.0.settings.limit
    }
}

#[async_trait]
impl Broker for SqliteBroker {
    fn capabilities(&self, _: &Destination) -> Capabilities {
        Capabilities {
            ordering: Ordering::PerKey,
            groups: Groups::Many,
            replay: Replay::Kept,
            delay: Delay::UpTo(MAX_DELAY),
            attempts: Attempts::Counted,
            durability: if self.0.settings.full { Durability::Stored } else { Durability::ProcessCrash },
            batching: Batching::Provider,
            header_values: HeaderValues::Bytes,
            header_names: HeaderNames::Repeatable,
            max_headers: None,
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }

    async fn ensure(&self, destination: &Destination) -> Result<()> {
        let request = Ensure { destination: destination.clone(), retain: self.0.settings.retain };
        self.file()?.ask(request, self.limit()).await
    }

    async fn inspect(&self, destination: &Destination) -> Result<Inspection> {
        let request =
            Inspect { destination: Arc::clone(&destination.name), now: self.0.settings.clock.now() };
        self.file()?.ask(request, self.limit()).await
    }

    async fn publisher(&self, destination: &Destination) -> Result<Arc<dyn Publisher>> {
        let name = Arc::clone(&destination.name);
        let id = self.file()?.ask(Find(Arc::clone(&name)), self.limit()).await?;
        Ok(Arc::new(SqlitePublisher::new(Arc::clone(&self.0), id, name)))
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        let file = self.file()?;
        let (destination, queue) = (Arc::clone(&destination.name), Arc::clone(&file.queue));
        let seat = file.ask(Join { destination, options: options.clone(), queue }, self.limit()).await?;
        let woken = file.wakes.of(seat.member().destination);
        let consumer = Arc::new(SqliteConsumer::new(Arc::clone(&self.0), seat, woken, options));
        let mut consumers = self.0.consumers();
        consumers.retain(|consumer| consumer.strong_count() > 0);
        consumers.push(Arc::downgrade(&consumer));
        drop(consumers);
        // Closed meanwhile: the close may not have seen it, and dropping it leaves.
        self.file()?;
        Ok(consumer)
    }

    async fn delete_group(&self, destination: &Destination, group: &str) -> Result<()> {
        let destination = Arc::clone(&destination.name);
        let request = DeleteGroup { destination, group: group.into(), now: self.0.settings.clock.now() };
        self.file()?.ask(request, self.limit()).await
    }

    async fn ping(&self) -> Result<()> {
        self.file()?.ask(Ping, self.limit()).await
    }

    async fn close(&self) -> Result<()> {
        let file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(file) = file else { return Ok(()) };
        let consumers = std::mem::take(&mut *self.0.consumers());
        let mut left = Ok(());
        for consumer in consumers.iter().filter_map(Weak::upgrade) {
            // One that cannot leave keeps no other from leaving.
            left = left.and(consumer.leave().await);
        }
        file.close(self.limit()).await;
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;
    use crate::request::Request;
    use crate::store::Store;
    use ductape_core::ErrorKind;

    struct Panics;

    impl Request for Panics {
        type Answer = ();

        fn run(&self, _: &mut Store) -> Result<(), Fault> {
            panic!("as a fault of this crate would")
        }
    }

    #[tokio::test]
    async fn a_writer_that_panics_fails_what_it_had_and_another_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let durability = config::Durability::Normal;
        let config = SqliteConfig { path: "a.db".into(), durability, retain: None, max_bytes: None };
        let options = ConnectOptions { base_dir: folder.path().into(), ..ConnectOptions::default() };
        let broker = SqliteBroker(Arc::new(Link::open(&config, &options).await.unwrap()));
        let orders = Destination::new("orders", "billing");
        broker.ensure(&orders).await.unwrap();
        let consumer = broker.consumer(&orders, &ConsumerOptions::new("billing")).await.unwrap();
        let file = broker.file().unwrap();
        let failed = file.ask(Panics, broker.limit()).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::ConnectionLost);
        // Closed last, when the thread has let go of the file.
        let ended = file.ask(Ping, broker.limit()).await.unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::ConnectionLost);
        let lost = consumer.receive(1, Duration::from_secs(20)).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Closed, "so that core opens another");
        let _another = broker.consumer(&orders, &ConsumerOptions::new("billing")).await.unwrap();
        assert_eq!(broker.inspect(&orders).await.unwrap().groups[0].members, Some(1));
    }
}
