//! Connecting to the service.

use crate::admin;
use crate::consumer::{self, PubSubConsumer};
use crate::link::Link;
use crate::message::MAX_MESSAGE_BYTES;
use crate::publisher::{self, PubSubPublisher};
use async_trait::async_trait;
use ductape_core::broker::Inspection;
use ductape_core::capability::{
    Attempts, Capabilities, Delay, Durability, Groups, HeaderNames, HeaderValues, Ordering, Replay,
};
use ductape_core::{
    Broker, ConnectOptions, Consumer, ConsumerOptions, Destination, Error, ErrorKind, Provider,
    ProviderConfig, ProviderKind, Publisher, Result,
};
use futures_util::future::join_all;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Makes connections to Google Pub/Sub and its emulator (`type: GOOGLE_PUBSUB`).
#[derive(Clone, Copy, Debug, Default)]
pub struct PubSubProvider;

struct PubSubBroker {
    link: Arc<Link>,
    /// Those that were opened here: they give back what they hold when the connection ends.
    consumers: Mutex<Vec<Weak<PubSubConsumer>>>,
}

impl PubSubBroker {
    fn consumers(&self) -> Vec<Arc<PubSubConsumer>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<PubSubConsumer>>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Provider for PubSubProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::GooglePubSub
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        let ProviderConfig::GooglePubSub(config) = config else {
            let message = format!("this is a config of {}", config.kind());
            return Err(Error::new(ErrorKind::ConfigInvalid, message)
                .with_help("give GOOGLE_PUBSUB a config with `projectId`"));
        };
        let link = Arc::new(Link::new(config, options).await?);
        let proven = async {
            link.authenticate(options.connect_timeout).await?;
            admin::ping(&link).await
        };
        match tokio::time::timeout(options.connect_timeout, proven).await {
            Ok(proven) => proven?,
            Err(_) => {
                return Err(link.located(crate::error::timed_out("connecting", crate::error::Effect::Same)));
            }
        }
        Ok(Arc::new(PubSubBroker { link, consumers: Mutex::default() }))
    }
}

#[async_trait]
impl Broker for PubSubBroker {
    fn capabilities(&self, destination: &Destination) -> Capabilities {
        Capabilities {
            ordering: if destination.ordered { Ordering::PerKey } else { Ordering::None },
            groups: Groups::Many,
            replay: Replay::None,
            delay: Delay::None,
            // Counted only by a subscription with a dead-letter policy, which nobody can tell without asking.
            attempts: Attempts::Forgotten,
            durability: Durability::Stored,
            batching: publisher::BATCHING,
            header_values: HeaderValues::Bytes,
            header_names: HeaderNames::Repeatable,
            max_headers: None,
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }

    async fn ensure(&self, destination: &Destination) -> Result<()> {
        admin::ensure(&self.link, destination).await
    }

    async fn inspect(&self, destination: &Destination) -> Result<Inspection> {
        let in_flight = |subscription: &str| {
            let consumers = self.consumers().into_iter().filter(|it| it.subscription == subscription);
            consumers.map(|consumer| consumer.handed()).sum()
        };
        let seen = admin::inspect(&self.link, destination, in_flight).await;
        seen.map_err(|error| error.with_context("destination", &destination.name))
    }

    async fn publisher(&self, destination: &Destination) -> Result<Arc<dyn Publisher>> {
        self.link.check_open("the connection")?;
        Ok(Arc::new(PubSubPublisher::new(Arc::clone(&self.link), destination)))
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        consumer::check_lease(options.lease)?;
        admin::ensure_group(&self.link, destination, &options.group).await?;
        let consumer = Arc::new(PubSubConsumer::open(Arc::clone(&self.link), destination, options));
        let mut consumers = self.lock();
        consumers.retain(|consumer| consumer.strong_count() > 0);
        consumers.push(Arc::downgrade(&consumer));
        Ok(consumer)
    }

    async fn delete_group(&self, destination: &Destination, group: &str) -> Result<()> {
        admin::delete_group(&self.link, destination, group).await
    }

    async fn ping(&self) -> Result<()> {
        admin::ping(&self.link).await
    }

    async fn close(&self) -> Result<()> {
        // Those never fail: what cannot be given back comes again when its lease ends.
        join_all(self.consumers().iter().map(|consumer| consumer.close())).await;
        self.link.close();
        Ok(())
    }
}
