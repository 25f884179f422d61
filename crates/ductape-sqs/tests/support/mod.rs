//! What the tests of this crate share: configs, messages, and a stand-in that answers as SQS does.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a failure here is the test's")]

pub mod stand_in;

use ductape_core::config::SqsConfig;
use ductape_core::message::{Attributes, IdSource};
use ductape_core::secret::Secret;
use ductape_core::{
    Broker, Clock, ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, Message, Provider,
    ProviderConfig, Publisher, Result, Settlement, Verdict,
};
use ductape_sqs::SqsProvider;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Long enough for what must happen, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(60);
pub const SECRET: &str = "Zq7-the-secret-access-key-of-this-test";
pub const TOKEN: &str = "FwoGZX-the-session-token-of-this-test";

pub fn config(address: &str) -> SqsConfig {
    SqsConfig {
        region: "us-east-1".into(),
        access_key_id: Some("AKIDTEST".into()),
        secret_access_key: Some(Secret::from(SECRET)),
        session_token: Some(Secret::from(TOKEN)),
        endpoint: Some(format!("http://{address}")),
        ..SqsConfig::default()
    }
}

pub async fn try_connect(address: &str, limit: Duration) -> Result<Arc<dyn Broker>> {
    let options = ConnectOptions { request_timeout: limit, ..ConnectOptions::default() };
    SqsProvider.connect(&ProviderConfig::AwsSqs(config(address)), &options).await
}

pub async fn connect(address: &str) -> Arc<dyn Broker> {
    try_connect(address, SOON).await.unwrap()
}

/// A queue with both its ends.
pub struct Topic {
    pub broker: Arc<dyn Broker>,
    pub destination: Destination,
    pub publisher: Arc<dyn Publisher>,
}

impl Topic {
    pub async fn open(broker: Arc<dyn Broker>, name: &str) -> Topic {
        let destination = Destination::new(name, "readers");
        broker.ensure(&destination).await.unwrap();
        let publisher = broker.publisher(&destination).await.unwrap();
        Topic { broker, destination, publisher }
    }

    pub async fn consumer(&self, lease: Duration) -> Arc<dyn Consumer> {
        let options = ConsumerOptions { lease, ..ConsumerOptions::new("readers") };
        self.broker.consumer(&self.destination, &options).await.unwrap()
    }

    pub async fn publish(&self, messages: Vec<Message>) {
        for result in self.publisher.publish(messages).await {
            result.unwrap();
        }
    }
}

pub fn message(key: Option<&str>, body: impl Into<String>) -> Message {
    let time = Clock::system().now();
    let attributes =
        Attributes { source: "/shop".into(), event: "orders:new".into(), content_type: "text/plain".into() };
    let mut message = Message::new(body.into(), IdSource::new().next(time), time, Arc::new(attributes));
    message.key = key.map(Into::into);
    message
}

pub fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.payload.to_vec()).unwrap()
}

pub fn ack(delivery: &Delivery) -> Settlement {
    Settlement { token: delivery.token.clone(), verdict: Verdict::Ack }
}

/// Receives and acknowledges until so many different texts have come; in the order of their first coming.
pub async fn take(consumer: &Arc<dyn Consumer>, count: usize) -> Vec<String> {
    let (start, mut texts) = (Instant::now(), Vec::new());
    while texts.len() < count {
        assert!(start.elapsed() < SOON, "{} of {count} came", texts.len());
        let Ok(deliveries) = consumer.receive(256, Duration::from_secs(2)).await else { continue };
        for result in consumer.settle(deliveries.iter().map(ack).collect()).await {
            result.unwrap();
        }
        for delivery in &deliveries {
            if !texts.contains(&text(delivery)) {
                texts.push(text(delivery));
            }
        }
    }
    texts
}
