//! Connecting to a server.

use crate::admin;
use crate::consumer::RabbitMqConsumer;
use crate::link::Link;
use crate::message::MAX_MESSAGE_BYTES;
use crate::publisher::RabbitMqPublisher;
use async_trait::async_trait;
use ductape_core::broker::Inspection;
use ductape_core::capability::{
    Attempts, Batching, Capabilities, Delay, Durability, Groups, HeaderNames, HeaderValues, Ordering, Replay,
};
use ductape_core::{
    Broker, ConnectOptions, Consumer, ConsumerOptions, Destination, Error, ErrorKind, Provider,
    ProviderConfig, ProviderKind, Publisher, Result,
};
use futures_util::future::join_all;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Makes connections to RabbitMQ servers (`type: RABBITMQ`).
#[derive(Clone, Copy, Debug, Default)]
pub struct RabbitMqProvider;

struct RabbitMqBroker {
    link: Arc<Link>,
    /// What is open, to be closed before the connections.
    consumers: Mutex<Vec<Weak<RabbitMqConsumer>>>,
}

/// How often a consumer is tried to be opened, and how long apart.
const OPENINGS: usize = 3;
const PAUSE: Duration = Duration::from_millis(100);

#[async_trait]
impl Provider for RabbitMqProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::RabbitMq
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        let ProviderConfig::RabbitMq(config) = config else {
            let message = format!("this is a config of {}", config.kind());
            return Err(Error::new(ErrorKind::ConfigInvalid, message)
                .with_help("give RABBITMQ a config with `host` or `url`"));
        };
        let link = Arc::new(Link::new(config, options)?);
        admin::ping(&link).await?;
        Ok(Arc::new(RabbitMqBroker { link, consumers: Mutex::default() }))
    }
}

impl RabbitMqBroker {
    fn consumers(&self) -> MutexGuard<'_, Vec<Weak<RabbitMqConsumer>>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, consumer: &Arc<RabbitMqConsumer>) {
        let mut consumers = self.consumers();
        consumers.retain(|consumer| consumer.strong_count() > 0);
        consumers.push(Arc::downgrade(consumer));
    }
}

#[async_trait]
impl Broker for RabbitMqBroker {
    fn capabilities(&self, destination: &Destination) -> Capabilities {
        Capabilities {
            ordering: if destination.ordered { Ordering::PerKey } else { Ordering::None },
            groups: Groups::Many,
            replay: Replay::None,
            delay: Delay::None,
            attempts: Attempts::Overcounted,
            durability: Durability::Stored,
            batching: Batching::Provider,
            header_values: HeaderValues::Bytes,
            header_names: HeaderNames::Unique,
            max_headers: None,
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }

    async fn ensure(&self, destination: &Destination) -> Result<()> {
        admin::ensure(&self.link, destination).await
    }

    async fn inspect(&self, destination: &Destination) -> Result<Inspection> {
        admin::inspect(&self.link, destination).await
    }

    async fn publisher(&self, destination: &Destination) -> Result<Arc<dyn Publisher>> {
        Ok(Arc::new(RabbitMqPublisher::open(Arc::clone(&self.link), destination).await?))
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        admin::ensure_group(&self.link, destination, &options.group).await?;
        let mut opened = RabbitMqConsumer::open(Arc::clone(&self.link), destination, options).await;
        for _ in 1..OPENINGS {
            // A quorum queue that is just made may have no leader yet, at which the server drops the connection.
            if !opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionLost) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            opened = RabbitMqConsumer::open(Arc::clone(&self.link), destination, options).await;
        }
        let consumer = Arc::new(opened?);
        self.remember(&consumer);
        // A close that came meanwhile may have looked before it was there.
        if let Err(closed) = self.link.check_open("the connection") {
            consumer.close().await?;
            return Err(closed);
        }
        Ok(consumer)
    }

    async fn delete_group(&self, destination: &Destination, group: &str) -> Result<()> {
        admin::delete_group(&self.link, destination, group).await
    }

    async fn ping(&self) -> Result<()> {
        admin::ping(&self.link).await
    }

    async fn close(&self) -> Result<()> {
        self.link.shut();
        // A consumer sees that the server has what it was told; a connection that just ends may forget it.
        let open: Vec<_> = self.consumers().iter().filter_map(Weak::upgrade).collect();
        let closes = join_all(open.iter().map(|consumer| consumer.close()));
        if tokio::time::timeout(self.link.limit, closes).await.is_err() {
            tracing::debug!("consumers did not close in time; verdicts may be lost");
        }
        self.link.close().await
    }
}
