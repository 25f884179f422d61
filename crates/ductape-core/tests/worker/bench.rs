//! A destination, its dead letters, and workers on it.

use ductape_core::broker::{Broker, ConnectOptions, ConsumerOptions, Destination, Provider, Publisher};
use ductape_core::capability::Attempts;
use ductape_core::config::{MemoryConfig, ProviderConfig};
use ductape_core::dead_letter::{DEAD_LETTER_GROUP, DeadLetterSink};
use ductape_core::delivery::OnRetry;
use ductape_core::message::{Attributes, IdSource, Message};
use ductape_core::worker::{IntoHandler, Subscription, WorkerOptions, WorkerSource};
use ductape_core::{Clock, Delivery, RetryPolicy};
use ductape_memory::MemoryProvider;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A destination with its dead letters on a broker of its own.
pub(crate) struct Bench {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) destination: Destination,
    pub(crate) dead: Destination,
    pub(crate) publisher: Arc<dyn Publisher>,
    pub(crate) ids: IdSource,
    pub(crate) clock: Clock,
    pub(crate) options: WorkerOptions,
    pub(crate) max_in_flight: usize,
    /// How attempts are said to be counted, where not as the broker says.
    pub(crate) attempts: Option<Attempts>,
    pub(crate) on_retry: OnRetry,
    /// Where dead letters go instead.
    pub(crate) dead_broker: Option<Arc<dyn Broker>>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with_clock(Clock::system()).await
    }

    pub(crate) async fn with_clock(clock: Clock) -> Self {
        let options = ConnectOptions { clock: clock.clone(), ..ConnectOptions::default() };
        let config = ProviderConfig::Memory(MemoryConfig::default());
        let broker = MemoryProvider::isolated().connect(&config, &options).await.unwrap();
        let destination = Destination::new("orders", "billing");
        let dead = Destination::new("orders.dead", DEAD_LETTER_GROUP);
        broker.ensure(&destination).await.unwrap();
        let publisher = broker.publisher(&destination).await.unwrap();
        let retry = RetryPolicy { initial: Duration::from_millis(5), ..RetryPolicy::default() };
        let options = WorkerOptions { retry, ..WorkerOptions::default() };
        Bench {
            broker,
            destination,
            dead,
            publisher,
            ids: IdSource::new(),
            clock,
            options,
            max_in_flight: 256,
            attempts: None,
            on_retry: OnRetry::default(),
            dead_broker: None,
        }
    }

    pub(crate) async fn publish(&mut self, messages: impl IntoIterator<Item = (Option<String>, String)>) {
        let attributes =
            Arc::new(Attributes { source: "/t".into(), event: "a:b".into(), content_type: "x".into() });
        let time = self.clock.now();
        let messages = messages.into_iter().map(|(key, payload)| {
            let mut message = Message::new(payload, self.ids.next(time), time, Arc::clone(&attributes));
            message.key = key.map(Into::into);
            message
        });
        for result in self.publisher.publish(messages.collect()).await {
            result.unwrap();
        }
    }

    pub(crate) async fn publish_unkeyed(&mut self, count: usize) {
        self.publish((0..count).map(|n| (None, n.to_string()))).await;
    }

    pub(crate) async fn subscribe<M, H: IntoHandler<M>>(&self, handler: H) -> Subscription {
        let mut consumer = ConsumerOptions::new("billing");
        consumer.max_in_flight = self.max_in_flight;
        // Longer than any jump of a manual clock: a jump past a lease loses it, as a suspended process does.
        consumer.lease = Duration::from_secs(3600);
        let sink = DeadLetterSink::new(
            Arc::clone(self.dead_broker.as_ref().unwrap_or(&self.broker)),
            "orders".into(),
            self.dead.clone(),
            Duration::from_secs(5),
        );
        let mut capabilities = self.broker.capabilities(&self.destination);
        capabilities.attempts = self.attempts.unwrap_or(capabilities.attempts);
        let source = WorkerSource {
            broker: Arc::clone(&self.broker),
            destination: self.destination.clone(),
            consumer,
            capabilities,
            dead_letters: Arc::new(sink),
            clock: self.clock.clone(),
            deadline: Duration::from_secs(30),
            on_retry: self.on_retry.clone(),
        };
        Subscription::start(source, self.options.clone(), handler.into_handler()).await.unwrap()
    }

    /// Has dead letters go to a broker that is closed.
    pub(crate) async fn refuse_dead_letters(&mut self) {
        let config = ProviderConfig::Memory(MemoryConfig::default());
        let broker = MemoryProvider::isolated().connect(&config, &ConnectOptions::default()).await.unwrap();
        broker.close().await.unwrap();
        self.dead_broker = Some(broker);
    }

    pub(crate) async fn lag(&self) -> u64 {
        self.broker.inspect(&self.destination).await.unwrap().groups[0].lag.unwrap()
    }

    pub(crate) async fn dead_letters(&self, count: usize) -> Vec<Delivery> {
        self.broker.ensure(&self.dead).await.unwrap();
        let options = ConsumerOptions::new(DEAD_LETTER_GROUP);
        let consumer = self.broker.consumer(&self.dead, &options).await.unwrap();
        let mut letters = Vec::new();
        while letters.len() < count {
            let more = consumer.receive(count, DEADLINE).await.unwrap();
            assert!(!more.is_empty(), "{} dead letters of {count}", letters.len());
            letters.extend(more);
        }
        letters
    }
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::task::yield_now().await;
    }
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.payload.to_vec()).unwrap()
}
