//! An isolated provider with a clock that is moved by hand, and short words for what the tests do.

use ductape_core::broker::GroupInspection;
use ductape_core::config::{MemoryConfig, ProviderConfig};
use ductape_core::message::{Attributes, OCTET_STREAM};
use ductape_core::{
    Broker, Clock, ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, Message, MessageId,
    Position, Provider, Publisher, Result, Settlement, Start, Timestamp, Verdict,
};
use ductape_memory::MemoryProvider;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything in these tests takes: only a fault waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The lease of every consumer here.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    pub(crate) provider: MemoryProvider,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) clock: Clock,
    pub(crate) config: MemoryConfig,
    pub(crate) destination: Destination,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(MemoryConfig::default()).await
    }

    pub(crate) async fn with(config: MemoryConfig) -> Self {
        let provider = MemoryProvider::isolated();
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        let broker = connect(&provider, &config, &clock).await;
        let destination = Destination::new("orders", "billing");
        broker.ensure(&destination).await.unwrap();
        Rig { provider, broker, clock, config, destination }
    }

    pub(crate) async fn connect_again(&self) -> Arc<dyn Broker> {
        connect(&self.provider, &self.config, &self.clock).await
    }

    pub(crate) async fn publisher(&self) -> Arc<dyn Publisher> {
        self.broker.publisher(&self.destination).await.unwrap()
    }

    /// Publishes one message a text; `k=v` has the key `k`.
    pub(crate) async fn publish(&self, texts: &[&str]) -> Vec<Result<Position>> {
        let publisher = self.publisher().await;
        within(publisher.publish(texts.iter().map(|text| message(text)).collect())).await
    }

    /// A consumer of the default group.
    pub(crate) async fn consumer(&self) -> Arc<dyn Consumer> {
        self.member("billing", Start::Latest, 256).await
    }

    pub(crate) async fn member(&self, group: &str, start: Start, max_in_flight: usize) -> Arc<dyn Consumer> {
        let options = ConsumerOptions { start, max_in_flight, lease: LEASE, ..ConsumerOptions::new(group) };
        self.broker.consumer(&self.destination, &options).await.unwrap()
    }

    pub(crate) async fn group(&self, name: &str) -> GroupInspection {
        let inspection = self.broker.inspect(&self.destination).await.unwrap();
        inspection.groups.into_iter().find(|group| group.name == name).unwrap()
    }
}

async fn connect(provider: &MemoryProvider, config: &MemoryConfig, clock: &Clock) -> Arc<dyn Broker> {
    let options = ConnectOptions { clock: clock.clone(), ..ConnectOptions::default() };
    provider.connect(&ProviderConfig::Memory(config.clone()), &options).await.unwrap()
}

/// A message of this text; `k=v` has the key `k`.
pub(crate) fn message(text: &str) -> Message {
    let attributes = Arc::new(Attributes {
        source: "/shop".into(),
        event: "shop:orders".into(),
        content_type: OCTET_STREAM.into(),
    });
    let id = MessageId::Text(text.into());
    let mut message = Message::new(text.to_owned(), id, Timestamp::from_micros(0), attributes);
    message.key = text.split_once('=').map(|(key, _)| key.into());
    message
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.payload.to_vec()).unwrap()
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}

/// What is there now, without waiting.
pub(crate) async fn now(consumer: &Arc<dyn Consumer>) -> Vec<Delivery> {
    consumer.receive(1000, Duration::ZERO).await.unwrap()
}

pub(crate) async fn settle(
    consumer: &Arc<dyn Consumer>,
    delivery: &Delivery,
    verdict: Verdict,
) -> Result<()> {
    let settlement = Settlement { token: delivery.token.clone(), verdict };
    within(consumer.settle(vec![settlement])).await.pop().unwrap()
}

pub(crate) async fn ack_all(consumer: &Arc<dyn Consumer>, deliveries: &[Delivery]) {
    let settlement = |d: &Delivery| Settlement { token: d.token.clone(), verdict: Verdict::Ack };
    let results = within(consumer.settle(deliveries.iter().map(settlement).collect())).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// The future's output, or a failed test where it hangs.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

/// Lets all other tasks run until each of them waits.
pub(crate) async fn settle_down() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
