//! What the tests of this crate share: a file of their own, messages, and patience with an end.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a failure here is the test's")]

use ductape_core::config::{Durability, SqliteConfig};
use ductape_core::message::{Attributes, IdSource};
use ductape_core::{
    Broker, Clock, ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, Message, Provider,
    ProviderConfig, Publisher, Result, Settlement, Timestamp, Verdict,
};
use ductape_sqlite::SqliteProvider;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Long enough for what must happen, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);
/// Long enough to see that nothing happens.
pub const MOMENT: Duration = Duration::from_millis(50);
pub const LEASE: Duration = Duration::from_secs(30);

/// A database in a folder of its own, which goes with it.
pub struct File {
    pub folder: tempfile::TempDir,
    pub clock: Clock,
}

impl File {
    /// A new file under a clock that stands still.
    pub fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        File { folder: tempfile::tempdir().unwrap(), clock }
    }

    /// A new file under the system's clock.
    pub fn by_the_clock() -> Self {
        File { clock: Clock::system(), ..File::new() }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("test.db")
    }

    pub fn config(&self) -> SqliteConfig {
        config(&self.path())
    }

    pub async fn connect(&self) -> Arc<dyn Broker> {
        self.connect_with(self.config()).await.unwrap()
    }

    pub async fn connect_with(&self, config: SqliteConfig) -> Result<Arc<dyn Broker>> {
        let options = ConnectOptions { clock: self.clock.clone(), ..ConnectOptions::default() };
        SqliteProvider.connect(&ProviderConfig::Sqlite(config), &options).await
    }

    /// A connection with a publisher and a consumer of one destination.
    pub async fn topic(&self) -> Topic {
        let broker = self.connect().await;
        broker.ensure(&orders()).await.unwrap();
        let publisher = broker.publisher(&orders()).await.unwrap();
        let consumer = member(&*broker).await;
        Topic { broker, publisher, consumer }
    }
}

pub struct Topic {
    pub broker: Arc<dyn Broker>,
    pub publisher: Arc<dyn Publisher>,
    pub consumer: Arc<dyn Consumer>,
}

impl Topic {
    pub async fn publish(&self, texts: &[&str]) {
        let batch = texts.iter().map(|text| keyed(text)).collect();
        for result in self.publisher.publish(batch).await {
            result.unwrap();
        }
    }

    /// Receives all that can be had at once, or else the first that comes soon.
    pub async fn take(&self) -> Vec<Delivery> {
        take(&*self.consumer).await
    }

    /// Sees that nothing can be had.
    pub async fn nothing(&self) {
        nothing(&*self.consumer).await;
    }
}

pub fn config(path: &Path) -> SqliteConfig {
    SqliteConfig { path: path.into(), durability: Durability::Normal, retain: None, max_bytes: None }
}

pub fn orders() -> Destination {
    Destination::new("orders", "billing")
}

pub fn options() -> ConsumerOptions {
    ConsumerOptions { lease: LEASE, ..ConsumerOptions::new("billing") }
}

/// Another member of the default group.
pub async fn member(broker: &dyn Broker) -> Arc<dyn Consumer> {
    broker.consumer(&orders(), &options()).await.unwrap()
}

/// A message with this text; what stands before a colon is its key.
pub fn keyed(text: &str) -> Message {
    let mut message = plain(text.as_bytes());
    message.key = text.split_once(':').map(|(key, _)| key.into());
    message
}

pub fn plain(payload: &[u8]) -> Message {
    static ATTRIBUTES: LazyLock<Arc<Attributes>> = LazyLock::new(|| {
        Arc::new(Attributes {
            source: "/shop".into(),
            event: "order-events:new-orders".into(),
            content_type: "text/plain".into(),
        })
    });
    let time = Clock::system().now();
    Message::new(payload.to_vec(), IdSource::new().next(time), time, Arc::clone(&ATTRIBUTES))
}

pub async fn take(consumer: &dyn Consumer) -> Vec<Delivery> {
    let deliveries = consumer.receive(1000, SOON).await.unwrap();
    assert!(!deliveries.is_empty(), "nothing came");
    deliveries
}

pub async fn nothing(consumer: &dyn Consumer) {
    let deliveries = consumer.receive(1000, MOMENT).await.unwrap();
    assert!(deliveries.is_empty(), "came although it must not: {:?}", texts(&deliveries));
}

/// What the deliveries hold, as text.
pub fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| String::from_utf8_lossy(&d.message.payload).into_owned()).collect()
}

pub fn attempts(deliveries: &[Delivery]) -> Vec<u32> {
    deliveries.iter().map(|delivery| delivery.attempt).collect()
}

pub async fn ack(consumer: &dyn Consumer, deliveries: &[Delivery]) {
    settle(consumer, deliveries, Verdict::Ack).await;
}

pub async fn settle(consumer: &dyn Consumer, deliveries: &[Delivery], verdict: Verdict) {
    for result in consumer.settle(settlements(deliveries, verdict)).await {
        result.unwrap();
    }
}

pub fn settlements(deliveries: &[Delivery], verdict: Verdict) -> Vec<Settlement> {
    deliveries.iter().map(|d| Settlement { token: d.token.clone(), verdict }).collect()
}

/// Waits until something holds, looking again and again, and fails where it does not soon.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = std::time::Instant::now() + SOON;
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "{what} did not come true");
        // tidy: sleeps because nothing tells when it comes true; each look has the same deadline.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
