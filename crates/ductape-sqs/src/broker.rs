//! Connecting to SQS.

use crate::admin;
use crate::consumer::SqsConsumer;
use crate::hand::LONGEST_LEASE;
use crate::link::Link;
use crate::message::MAX_MESSAGE_BYTES;
use crate::publisher::SqsPublisher;
use crate::queue::is_fifo;
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
use std::sync::Arc;
use std::time::Duration;

/// Makes connections to Amazon SQS and what speaks its protocol (`type: AWS_SQS`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SqsProvider;

struct SqsBroker(Arc<Link>);

/// SQS hides a message for twelve hours at most, those that the handler had it included.
const LONGEST_DELAY: Duration = Duration::from_secs(11 * 60 * 60);

#[async_trait]
impl Provider for SqsProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::AwsSqs
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        config.check().map_err(|error| error.with_help("see the table of the config in the README"))?;
        let ProviderConfig::AwsSqs(config) = config else {
            let message = format!("this is a config of {}", config.kind());
            return Err(Error::new(ErrorKind::ConfigInvalid, message)
                .with_help("give AWS_SQS a config with `region`"));
        };
        let place = config.endpoint.as_deref().unwrap_or(&config.region);
        let connect = async {
            let link = Arc::new(Link::new(config, options).await);
            admin::ping(&link).await.map(|()| link)
        };
        let connected = tokio::time::timeout(options.connect_timeout, connect).await;
        let link = connected.unwrap_or_else(|_| Err(unanswered(options.connect_timeout)));
        Ok(Arc::new(SqsBroker(link.map_err(|error| error.with_context("endpoint", place))?)))
    }
}

fn unanswered(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no answer to the first request within {limit:?}"))
        .with_retry(ductape_core::error::Retry::Safe)
        .with_help("see `region`, `endpoint` and the network, and where the credentials come from")
}

/// SQS would refuse every receive.
fn check_lease(lease: Duration) -> Result<()> {
    if lease <= LONGEST_LEASE {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ConfigInvalid, format!("a lease of {lease:?}, and AWS_SQS has 12 h at most"))
        .with_help("take a lease of 12 h or less"))
}

#[async_trait]
impl Broker for SqsBroker {
    fn capabilities(&self, destination: &Destination) -> Capabilities {
        Capabilities {
            ordering: if is_fifo(&destination.name) { Ordering::PerKey } else { Ordering::None },
            groups: Groups::One,
            replay: Replay::None,
            delay: Delay::UpTo(LONGEST_DELAY),
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
        self.0.check_open("the connection")?;
        let url = admin::url(&self.0, destination).await?;
        Ok(Arc::new(SqsPublisher::start(Arc::clone(&self.0), destination, url)))
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        self.0.check_open("the connection")?;
        check_lease(options.lease).map_err(|error| error.with_context("destination", &destination.name))?;
        let url = admin::url(&self.0, destination).await?;
        Ok(Arc::new(SqsConsumer::start(Arc::clone(&self.0), destination, url, options)))
    }

    async fn delete_group(&self, destination: &Destination, group: &str) -> Result<()> {
        self.0.check_open("the connection")?;
        Err(Error::unsupported(ProviderKind::AwsSqs, format!("deleting the group `{group}`"))
            .with_context("destination", &destination.name)
            .with_help("a queue has one group; purge or delete the queue itself"))
    }

    async fn ping(&self) -> Result<()> {
        admin::ping(&self.0).await
    }

    async fn close(&self) -> Result<()> {
        join_all(self.0.close().iter().map(|consumer| consumer.close())).await;
        Ok(())
    }
}
