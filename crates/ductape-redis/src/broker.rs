//! Connecting to a server.

use crate::consumer::RedisConsumer;
use crate::link::{Link, Use};
use crate::message::MAX_MESSAGE_BYTES;
use crate::publisher::{self, RedisPublisher, Retention};
use crate::{address, admin, pubsub, safety};
use async_trait::async_trait;
use ductape_core::broker::Inspection;
use ductape_core::capability::{
    Attempts, Capabilities, Delay, Durability, Groups, HeaderNames, HeaderValues, Ordering, Replay,
};
use ductape_core::config::{RedisConfig, RedisMode};
use ductape_core::{
    Broker, ConnectOptions, Consumer, ConsumerOptions, Destination, Error, ErrorKind, Provider,
    ProviderConfig, ProviderKind, Publisher, Result, Start,
};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Makes connections to Redis servers (`type: REDIS`).
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisProvider;

struct StreamBroker {
    link: Arc<Link>,
    retention: Retention,
    /// What is open, to be closed with the connection.
    consumers: Mutex<Vec<Weak<RedisConsumer>>>,
}

#[async_trait]
impl Provider for RedisProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Redis
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        let ProviderConfig::Redis(config) = config else {
            let message = format!("this is a config of {}", config.kind());
            return Err(Error::new(ErrorKind::ConfigInvalid, message)
                .with_help("give REDIS a config with `host`, `url`, `cluster` or `sentinel`"));
        };
        let link = Arc::new(Link::new(address::read(config, options)?, options));
        link.lend(Use::Commands).await?;
        if config.mode == RedisMode::Pubsub {
            return Ok(Arc::new(pubsub::PubSubBroker::new(link)));
        }
        safety::warn(&link).await;
        let retention = retention(config)?;
        Ok(Arc::new(StreamBroker { link, retention, consumers: Mutex::default() }))
    }
}

fn retention(config: &RedisConfig) -> Result<Retention> {
    Ok(match (config.max_len, &config.retain) {
        (Some(most), _) => Retention::Count(most),
        (None, Some(age)) => Retention::Age(ductape_core::duration::parse(age)?),
        (None, None) => Retention::All,
    })
}

#[async_trait]
impl Broker for StreamBroker {
    fn capabilities(&self, destination: &Destination) -> Capabilities {
        Capabilities {
            ordering: if destination.ordered { Ordering::PerKey } else { Ordering::None },
            groups: Groups::Many,
            replay: Replay::Kept,
            delay: Delay::None,
            attempts: Attempts::Overcounted,
            durability: Durability::Stored,
            batching: publisher::BATCHING,
            header_values: HeaderValues::Bytes,
            header_names: HeaderNames::Repeatable,
            max_headers: None,
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }

    async fn ensure(&self, destination: &Destination) -> Result<()> {
        self.link.check_open("the connection")?;
        admin::ensure(&self.link, destination).await
    }

    async fn inspect(&self, destination: &Destination) -> Result<Inspection> {
        admin::inspect(&self.link, destination).await
    }

    async fn publisher(&self, destination: &Destination) -> Result<Arc<dyn Publisher>> {
        // Now, so that a fault is told here.
        self.link.lend(Use::Publishes(0)).await?;
        Ok(Arc::new(RedisPublisher::new(Arc::clone(&self.link), destination, self.retention)))
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        // The default group is there since `ensure`: where it is not, data was lost, and what came since is its own.
        let is_default = options.group == destination.default_group;
        let start = if is_default || options.start == Start::Earliest { admin::FIRST } else { admin::LAST };
        admin::make_group(&self.link, &destination.name, &options.group, start).await?;
        let consumer = RedisConsumer::open(Arc::clone(&self.link), destination, options).await?;
        let consumer = Arc::new(consumer);
        let mut consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner);
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
        let consumers = std::mem::take(&mut *self.consumers.lock().unwrap_or_else(PoisonError::into_inner));
        let open = consumers.iter().filter_map(Weak::upgrade);
        // Redis keeps what a member has until it says otherwise.
        let closes: Vec<_> = open.map(|consumer| async move { consumer.close().await }).collect();
        futures_util::future::join_all(closes).await;
        self.link.close();
        Ok(())
    }
}
