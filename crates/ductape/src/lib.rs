//! Message brokers, declared once: a service writes its brokers and topics into a catalogue, with a provider
//! for each environment, and publishes and subscribes by tag. Changing the provider changes the catalogue,
//! never the code, and never what the service may rely on: at-least-once delivery, retries, dead letters, order
//! by key, bounded memory, a clean stop.
//!
//! ```
//! use ductape::{Ductape, Outcome, Publish, Subscribe};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order { order_id: String, total: f64 }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> ductape::Result<()> {
//! let ductape = Ductape::yaml("
//! product: shop
//! brokers:
//!   - name: Order Events
//!     tag: order-events
//!     envs: [{ slug: dev, type: MEMORY, config: {} }]
//!     topics: [{ name: New Orders, tag: new-orders }]
//! ")?.build().await?;
//!
//! let (done, mut handled) = tokio::sync::mpsc::channel(1);
//! let subscription = ductape.broker().subscribe(Subscribe::new("order-events:new-orders"), move |order: Order| {
//!     let done = done.clone();
//!     async move { done.send(order.total).await }
//! }).await?;
//! let order = Order { order_id: "12345".into(), total: 99.99 };
//! ductape.broker().publish(Publish::new("order-events:new-orders").message(&order)?).await?;
//!
//! assert_eq!(handled.recv().await, Some(99.99));
//! subscription.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! `memory` and `sqlite` are on by default and need no server; so are `sessions` (verifying the tokens that sessions are
//! published under) and `schema` (a topic's JSON Schema). `full` has these and every provider. A service that wants to
//! name its providers itself depends on `ductape-core` and one provider's crate, and registers it with
//! [`client::ClientBuilder::provider`].

use std::ops::Deref;
use std::path::Path;

pub use ductape_core::*;

pub use ductape_core::catalogue::Catalogue;
pub use ductape_core::client::{
    Client, ClientBuilder, DeadLetters, EventPublisher, Incoming, IncomingStream, LetterFilter, NewMessage,
    Publish, Receipt, Subscribe,
};
#[cfg(feature = "kafka")]
pub use ductape_kafka as kafka;
#[cfg(feature = "memory")]
pub use ductape_memory as memory;
#[cfg(feature = "pubsub")]
pub use ductape_pubsub as pubsub;
#[cfg(feature = "rabbitmq")]
pub use ductape_rabbitmq as rabbitmq;
#[cfg(feature = "redis")]
pub use ductape_redis as redis;
#[cfg(feature = "sqlite")]
pub use ductape_sqlite as sqlite;
#[cfg(feature = "sqs")]
pub use ductape_sqs as sqs;

/// A [`Client`] that knows every provider that is compiled in. It reads as its client.
#[derive(Clone, Debug)]
pub struct Ductape(Client);

/// Puts a [`Ductape`] together; see [`ClientBuilder`] for its methods.
#[must_use]
#[derive(Debug)]
pub struct Builder(ClientBuilder);

impl Ductape {
    /// Opens a catalogue's file with the env from `DUCTAPE_ENV`, else `dev`. Nothing is connected yet.
    ///
    /// # Errors
    /// `CATALOGUE_NOT_FOUND`; `CATALOGUE_INVALID` with file, line and column.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::file(path).build().await
    }

    /// A catalogue's file, with settings.
    pub fn file(path: impl AsRef<Path>) -> Builder {
        Builder(with_providers(Client::file(path)))
    }

    /// A catalogue that lives in this process alone.
    pub fn in_memory(catalogue: Catalogue) -> Builder {
        Builder(with_providers(Client::memory(catalogue)))
    }

    /// A catalogue written in YAML that lives in this process alone.
    ///
    /// # Errors
    /// `CATALOGUE_INVALID` with line and column.
    pub fn yaml(text: &str) -> Result<Builder> {
        Ok(Self::in_memory(Catalogue::from_yaml(text)?))
    }

    /// A catalogue kept anywhere.
    pub fn store(store: impl catalogue::Store) -> Builder {
        Builder(with_providers(Client::store(store)))
    }
}

impl Builder {
    /// As [`ClientBuilder::env`].
    pub fn env(self, env: impl Into<String>) -> Self {
        Builder(self.0.env(env))
    }

    /// As [`ClientBuilder::provider`]; it takes the place of a compiled-in one of its kind.
    pub fn provider(self, provider: impl Provider) -> Self {
        Builder(self.0.provider(provider))
    }

    /// As [`ClientBuilder::connect_options`].
    pub fn connect_options(self, options: ConnectOptions) -> Self {
        Builder(self.0.connect_options(options))
    }

    /// As [`ClientBuilder::build`].
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub async fn build(self) -> Result<Ductape> {
        self.0.build().await.map(Ductape)
    }
}

fn with_providers(builder: ClientBuilder) -> ClientBuilder {
    #[cfg(feature = "kafka")]
    let builder = builder.provider(ductape_kafka::KafkaProvider);
    #[cfg(feature = "memory")]
    let builder = builder.provider(ductape_memory::MemoryProvider::default());
    #[cfg(feature = "pubsub")]
    let builder = builder.provider(ductape_pubsub::PubSubProvider);
    #[cfg(feature = "rabbitmq")]
    let builder = builder.provider(ductape_rabbitmq::RabbitMqProvider);
    #[cfg(feature = "redis")]
    let builder = builder.provider(ductape_redis::RedisProvider);
    #[cfg(feature = "sqlite")]
    let builder = builder.provider(ductape_sqlite::SqliteProvider);
    #[cfg(feature = "sqs")]
    let builder = builder.provider(ductape_sqs::SqsProvider);
    builder
}

impl Deref for Ductape {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}
