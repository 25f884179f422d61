//! A server of a test's own, and what tests of consumers do with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use ductape_core::config::{ProviderConfig, RedisConfig};
use ductape_core::message::{Attributes, IdSource};
use ductape_core::{
    Broker, Clock, ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, ErrorKind, Message,
    Provider, Settlement, Verdict,
};
use ductape_redis::RedisProvider;
use ductape_testkit::servers::{self, Kind, Options, Server};
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
pub(crate) const LEASE: Duration = Duration::from_secs(1);
pub(crate) const QUIET: Duration = Duration::from_millis(200);

/// A server of the test's own, with a config that leads to it.
pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) config: RedisConfig,
    raw: MultiplexedConnection,
}

impl Rig {
    pub(crate) async fn start(test: &str) -> Option<Self> {
        let server = match servers::own(Kind::Redis, Options::default()).await {
            Ok(server) => server,
            Err(why) => {
                why.skip(test);
                return None;
            }
        };
        let endpoint = server.endpoint();
        let password = endpoint.password.as_ref().unwrap().expose();
        let client = redis::Client::open(format!("redis://:{password}@{}", endpoint.address)).unwrap();
        let raw = client.get_multiplexed_async_connection().await.unwrap();
        let config = super::config(endpoint);
        Some(Rig { server, config, raw })
    }

    pub(crate) async fn connect(&self) -> Arc<dyn Broker> {
        connect(&self.config).await
    }

    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.raw.clone()).await.unwrap()
    }
}

pub(crate) async fn connect(config: &RedisConfig) -> Arc<dyn Broker> {
    let options = ConnectOptions::default();
    RedisProvider.connect(&ProviderConfig::Redis(config.clone()), &options).await.unwrap()
}

pub(crate) fn ordered(name: &str) -> Destination {
    Destination { ordered: true, ..Destination::new(name, "g") }
}

pub(crate) fn options() -> ConsumerOptions {
    let mut options = ConsumerOptions::new("g");
    options.lease = LEASE;
    options
}

pub(crate) fn message(text: &str) -> Message {
    let now = Clock::system().now();
    let attributes = Attributes { source: "/t".into(), event: "t".into(), content_type: "t".into() };
    let mut message = Message::new(text.to_owned(), IdSource::new().next(now), now, Arc::new(attributes));
    message.key = Some("k".into());
    message
}

pub(crate) async fn publish(broker: &Arc<dyn Broker>, destination: &Destination, texts: &[&str]) {
    let publisher = broker.publisher(destination).await.unwrap();
    for result in publisher.publish(texts.iter().map(|text| message(text)).collect()).await {
        result.unwrap();
    }
}

pub(crate) async fn take(consumer: &Arc<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let (start, mut taken) = (Instant::now(), Vec::new());
    while taken.len() < count && start.elapsed() < PATIENCE {
        taken.extend(consumer.receive(count - taken.len(), PATIENCE).await.unwrap());
    }
    assert_eq!(taken.len(), count, "deliveries within {PATIENCE:?}");
    taken
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|it| String::from_utf8_lossy(&it.message.payload).into_owned()).collect()
}

pub(crate) async fn settle(
    consumer: &Arc<dyn Consumer>,
    deliveries: &[Delivery],
    verdict: Verdict,
) -> Vec<Option<ErrorKind>> {
    let batch = deliveries.iter().map(|it| Settlement { token: it.token.clone(), verdict }).collect();
    consumer.settle(batch).await.into_iter().map(|result| result.err().map(|error| error.kind())).collect()
}
