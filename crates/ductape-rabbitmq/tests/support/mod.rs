//! What the tests on a real server share: the config that leads to it, and single messages on a broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "each test program uses a part")]

use ductape_core::config::{ProviderConfig, RabbitMqConfig};
use ductape_core::message::{Attributes, IdSource};
use ductape_core::{
    Broker, Clock, ConnectOptions, Consumer, Delivery, Destination, Message, Provider, Result, Settlement,
    Verdict,
};
use ductape_rabbitmq::RabbitMqProvider;
use ductape_testkit::servers::{self, Endpoint, Kind, Server};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Long enough for what must happen, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(30);

/// The config that leads to an endpoint.
pub(crate) fn config(endpoint: &Endpoint) -> RabbitMqConfig {
    RabbitMqConfig {
        host: Some(endpoint.host().to_owned()),
        port: Some(endpoint.port()),
        username: endpoint.username.clone(),
        password: endpoint.password.clone(),
        ..RabbitMqConfig::default()
    }
}

/// The server that tests share. Nothing where this test is skipped, which is said.
pub(crate) async fn shared(test: &str) -> Option<Arc<Server>> {
    match servers::shared(Kind::RabbitMq).await {
        Ok(server) => Some(server),
        Err(why) => {
            why.skip(test);
            None
        }
    }
}

/// A connection whose calls end within this time.
pub(crate) async fn connect(config: &RabbitMqConfig, request_timeout: Duration) -> Result<Arc<dyn Broker>> {
    let options = ConnectOptions { request_timeout, ..ConnectOptions::default() };
    RabbitMqProvider.connect(&ProviderConfig::RabbitMq(config.clone()), &options).await
}

/// A destination that nobody else has, read by `readers`.
pub(crate) fn destination(word: &str) -> Destination {
    Destination::new(format!("{word}-{:016x}", fastrand::u64(..)), "readers")
}

pub(crate) fn message(payload: impl Into<bytes::Bytes>) -> Message {
    let now = Clock::system().now();
    let attributes =
        Attributes { source: "/shop".into(), event: "orders:new".into(), content_type: "text/plain".into() };
    Message::new(payload, IdSource::new().next(now), now, Arc::new(attributes))
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.payload).into_owned()
}

pub(crate) fn acks(deliveries: &[Delivery]) -> Vec<Settlement> {
    let ack = |delivery: &Delivery| Settlement { token: delivery.token.clone(), verdict: Verdict::Ack };
    deliveries.iter().map(ack).collect()
}

/// Receives and acknowledges until so many different texts are here.
pub(crate) async fn take(consumer: &Arc<dyn Consumer>, count: usize) -> HashSet<String> {
    let (start, mut texts) = (Instant::now(), HashSet::new());
    while texts.len() < count && start.elapsed() < SOON {
        let deliveries = consumer.receive(count, Duration::from_secs(1)).await.unwrap();
        texts.extend(deliveries.iter().map(text));
        consumer.settle(acks(&deliveries)).await.into_iter().for_each(|result| result.unwrap());
    }
    texts
}
