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
use std::sync::Arc;
use std::time::Duration;

/// Makes connections to RabbitMQ servers (`type: RABBITMQ`).
#[derive(Clone, Copy, Debug, Default)]
pub struct RabbitMqProvider;

struct RabbitMqBroker(Arc<Link>);

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
        Ok(Arc::new(RabbitMqBroker(link)))
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
        admin::ensure(&self.0, destination).await
    }

    async fn inspect(&self, destination: &Destination) -> Result<Inspection> {
        admin::inspect(&self.0, destination).await
    }

    async fn publisher(&self, destination: &Destination) -> Result<Arc<dyn Publisher>> {
        Ok(Arc::new(RabbitMqPublisher::open(Arc::clone(&self.0), destination).await?))
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        admin::ensure_group(&self.0, destination, &options.group).await?;
        let mut opened = RabbitMqConsumer::open(Arc::clone(&self.0), destination, options).await;
        for _ in 1..OPENINGS {
            // A quorum queue that is just made may have no leader yet, at which the server drops the connection.
            if !opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionLost) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            opened = RabbitMqConsumer::open(Arc::clone(&self.0), destination, options).await;
        }
        Ok(Arc::new(opened?))
    }

    async fn delete_group(&self, destination: &Destination, group: &str) -> Result<()> {
        admin::delete_group(&self.0, destination, group).await
    }

    async fn ping(&self) -> Result<()> {
        admin::ping(&self.0).await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}
