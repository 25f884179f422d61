//! The worker and the client over a provider that misbehaves: it panics, hangs, or answers too little.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use async_trait::async_trait;
use ductape_core::broker::{Broker, ConnectOptions, Consumer, ConsumerOptions, Inspection, Publisher};
use ductape_core::catalogue::Catalogue;
use ductape_core::client::{Client, NewMessage, Publish, Receipt, Subscribe};
use ductape_core::error::Retry;
use ductape_core::worker::SubscriptionStats;
use ductape_core::{
    Capabilities, Delivery, Destination, Error, ErrorKind, Message, Position, Provider, ProviderConfig,
    ProviderKind, Result, Settlement,
};
use ductape_memory::MemoryProvider;
use futures_util::future::join;
use futures_util::poll;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

const EVENT: &str = "orders:new";
const DEADLINE: Duration = Duration::from_secs(10);

/// What the n-th call of a kind does instead of what it should, counted from one.
#[derive(Clone, Copy)]
enum Quirk {
    PanicsInSettle,
    AnswersNoSettle,
    /// For its first [`REFUSALS`] calls.
    RefusesSettle,
    HangsInReceive,
    PanicsInReceive,
    /// Loses its connection with the first deliveries that it is sent.
    LosesReceived,
    HangsInPing,
    HangsInPublish,
    /// For a second.
    WaitsInConnect,
}

/// More than anybody would think of as a hiccup.
const REFUSALS: usize = 8;

/// MEMORY with a quirk at the first call that it is about.
struct Odd(MemoryProvider, Quirk);

struct OddBroker(Arc<dyn Broker>, Quirk, Arc<AtomicUsize>);

struct OddPublisher(Arc<dyn Publisher>, Quirk, Arc<AtomicUsize>);

struct OddConsumer(Arc<dyn Consumer>, Quirk, Arc<AtomicUsize>);

#[async_trait]
impl Provider for Odd {
    fn kind(&self) -> ProviderKind {
        self.0.kind()
    }

    async fn connect(&self, config: &ProviderConfig, options: &ConnectOptions) -> Result<Arc<dyn Broker>> {
        if matches!(self.1, Quirk::WaitsInConnect) {
            // tidy: sleeps because that is the quirk; the clock is paused.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let inner = self.0.connect(config, options).await?;
        Ok(Arc::new(OddBroker(inner, self.1, Arc::default())))
    }
}

#[async_trait]
impl Broker for OddBroker {
    fn capabilities(&self, destination: &Destination) -> Capabilities {
        self.0.capabilities(destination)
    }

    async fn ensure(&self, destination: &Destination) -> Result<()> {
        self.0.ensure(destination).await
    }

    async fn inspect(&self, destination: &Destination) -> Result<Inspection> {
        self.0.inspect(destination).await
    }

    async fn publisher(&self, destination: &Destination) -> Result<Arc<dyn Publisher>> {
        let inner = self.0.publisher(destination).await?;
        Ok(Arc::new(OddPublisher(inner, self.1, Arc::clone(&self.2))))
    }

    async fn consumer(
        &self,
        destination: &Destination,
        options: &ConsumerOptions,
    ) -> Result<Arc<dyn Consumer>> {
        let inner = self.0.consumer(destination, options).await?;
        Ok(Arc::new(OddConsumer(inner, self.1, Arc::clone(&self.2))))
    }

    async fn delete_group(&self, destination: &Destination, group: &str) -> Result<()> {
        self.0.delete_group(destination, group).await
    }

    async fn ping(&self) -> Result<()> {
        match self.1 {
            Quirk::HangsInPing => std::future::pending().await,
            _ => self.0.ping().await,
        }
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

#[async_trait]
impl Publisher for OddPublisher {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        if matches!(self.1, Quirk::HangsInPublish) && self.2.fetch_add(1, Ordering::AcqRel) == 0 {
            std::future::pending::<()>().await;
        }
        self.0.publish(batch).await
    }
}

impl OddConsumer {
    fn is_first(&self) -> bool {
        self.2.fetch_add(1, Ordering::AcqRel) == 0
    }
}

#[async_trait]
impl Consumer for OddConsumer {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        if matches!(self.1, Quirk::HangsInReceive) && self.is_first() {
            std::future::pending::<()>().await;
        }
        if matches!(self.1, Quirk::PanicsInReceive) && self.is_first() {
            panic!("a fault of the provider");
        }
        let received = self.0.receive(max, wait).await?;
        let is_quirk = matches!(self.1, Quirk::LosesReceived) && !received.is_empty();
        // The second, so that the worker has had some of this consumer before.
        if is_quirk && self.2.fetch_add(1, Ordering::AcqRel) == 1 {
            return Err(Error::new(ErrorKind::ConnectionLost, "the line went dead"));
        }
        Ok(received)
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Result<()>> {
        match self.1 {
            Quirk::PanicsInSettle if self.is_first() => panic!("a fault of the provider"),
            Quirk::AnswersNoSettle if self.is_first() => Vec::new(),
            Quirk::RefusesSettle if self.2.fetch_add(1, Ordering::AcqRel) < REFUSALS => {
                let full = || Error::new(ErrorKind::StorageFull, "the disk is full").with_retry(Retry::Safe);
                batch.iter().map(|_| Err(full())).collect()
            }
            _ => self.0.settle(batch).await,
        }
    }

    async fn extend(&self) -> Result<()> {
        self.0.extend().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

async fn client(quirk: Quirk, request_timeout: Duration) -> Client {
    let catalogue = Catalogue::from_yaml(
        "
product: shop
brokers:
  - name: Orders
    tag: orders
    envs: [{ slug: dev, type: MEMORY, config: {} }]
    topics: [{ name: New, tag: new }]
",
    );
    let options = ConnectOptions { request_timeout, ..ConnectOptions::default() };
    let provider = Odd(MemoryProvider::isolated(), quirk);
    let builder = Client::memory(catalogue.unwrap()).provider(provider).connect_options(options);
    builder.build().await.unwrap()
}

async fn publish(client: &Client, text: &str) -> Result<()> {
    client.broker().publish(Publish::new(EVENT).message(text)?).await.map(drop)
}

/// Publishes the first, sees these handled, publishes the second, and sees it handled and nothing left.
async fn handles(quirk: Quirk, expected: &[&str]) -> SubscriptionStats {
    let client = client(quirk, DEADLINE).await;
    let (done, mut handled) = mpsc::channel(16);
    let subscription = client
        .broker()
        .subscribe(Subscribe::new(EVENT), move |text: String| {
            let done = done.clone();
            async move { done.send(text).await }
        })
        .await
        .unwrap();
    publish(&client, "first").await.unwrap();
    for text in expected {
        let handled = tokio::time::timeout(DEADLINE, handled.recv()).await.expect("in time");
        assert_eq!(handled.as_deref(), Some(*text));
    }
    publish(&client, "second").await.unwrap();
    let second = tokio::time::timeout(DEADLINE, handled.recv()).await.expect("in time");
    assert_eq!(second.as_deref(), Some("second"));
    let settled = async {
        while subscription.stats().in_flight > 0 {
            // tidy: sleeps because nothing tells of a verdict that was taken; the whole has a deadline.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, settled).await.expect("in time");
    let stats = subscription.stop().await.unwrap();
    let seen = client.inspect(EVENT, None).await.unwrap();
    assert_eq!(seen.destination.groups[0].lag, Some(0));
    stats
}

/// A verdict that nobody has told the provider would otherwise keep the delivery in hand for ever.
#[tokio::test]
async fn what_a_provider_panicked_over_in_a_settle_comes_again() {
    let stats = handles(Quirk::PanicsInSettle, &["first", "first"]).await;
    assert_eq!((stats.unsettled, stats.reconnects), (1, 1), "{stats:?}");
}

#[tokio::test]
async fn a_verdict_without_an_answer_counts_as_not_settled_and_its_message_comes_again() {
    let stats = handles(Quirk::AnswersNoSettle, &["first", "first"]).await;
    assert_eq!((stats.unsettled, stats.reconnects), (1, 1), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_told_until_it_is_taken() {
    let stats = handles(Quirk::RefusesSettle, &["first"]).await;
    assert_eq!((stats.acked, stats.unsettled, stats.reconnects), (2, 0, 0), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_verdict_by_hand_is_told_until_it_is_taken() {
    let client = client(Quirk::RefusesSettle, DEADLINE).await;
    let mut stream = client.broker().consume(Subscribe::new(EVENT)).await.unwrap();
    publish(&client, "once").await.unwrap();
    stream.next().await.unwrap().unwrap().ack().await.unwrap();
    stream.close().await;
    assert_eq!(client.inspect(EVENT, None).await.unwrap().destination.groups[0].lag, Some(0));
}

/// Nobody else would ever have it, since its lease is renewed as long as the consumer lives.
#[tokio::test]
async fn what_was_settled_by_hand_and_not_taken_comes_again() {
    for quirk in [Quirk::PanicsInSettle, Quirk::AnswersNoSettle] {
        let client = client(quirk, DEADLINE).await;
        let mut stream = client.broker().consume(Subscribe::new(EVENT)).await.unwrap();
        publish(&client, "twice").await.unwrap();
        let first = stream.next().await.unwrap().unwrap();
        assert_eq!(first.ack().await.unwrap_err().kind(), ErrorKind::ProviderFailed);
        let told = tokio::time::timeout(DEADLINE, stream.next()).await.expect("in time").unwrap();
        assert_eq!(told.unwrap_err().kind(), ErrorKind::ConnectionLost);
        let again = tokio::time::timeout(DEADLINE, stream.next()).await.expect("in time").unwrap().unwrap();
        assert_eq!(again.message.payload, "\"twice\"");
        again.ack().await.unwrap();
        stream.close().await;
        assert_eq!(client.inspect(EVENT, None).await.unwrap().destination.groups[0].lag, Some(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_being_made_at_the_close_is_closed_too() {
    let client = client(Quirk::WaitsInConnect, DEADLINE).await;
    let (published, closed) = join(publish(&client, "late"), async {
        tokio::task::yield_now().await;
        client.close().await
    })
    .await;
    closed.unwrap();
    assert_eq!(published.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_hangs_in_receive_is_replaced() {
    let client = client(Quirk::HangsInReceive, Duration::from_secs(1)).await;
    let (done, mut handled) = mpsc::channel(1);
    let subscribe = Subscribe::new(EVENT);
    let handler = move |text: String| {
        let done = done.clone();
        async move { done.send(text).await }
    };
    let subscription = client.broker().subscribe(subscribe, handler).await.unwrap();
    publish(&client, "late").await.unwrap();
    assert_eq!(handled.recv().await.as_deref(), Some("late"));
    assert_eq!(subscription.stats().reconnects, 1);
}

#[tokio::test]
async fn a_consumer_that_panics_in_receive_is_replaced() {
    let stats = handles(Quirk::PanicsInReceive, &["first"]).await;
    assert_eq!((stats.acked, stats.reconnects), (2, 1), "{stats:?}");
}

/// Its provider gives that back when nobody holds the consumer, and no shard may do so that has nothing more of it.
#[tokio::test]
async fn what_was_lost_with_its_consumer_comes_again_without_waiting_for_its_lease() {
    let stats = handles(Quirk::LosesReceived, &["first"]).await;
    assert_eq!((stats.acked, stats.reconnects), (2, 1), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_ends_with_timeout() {
    let client = client(Quirk::HangsInPing, Duration::from_secs(1)).await;
    let error = client.ping(EVENT, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("no answer within 1s"), "{error}");
}

/// More than a publisher has under way.
const MANY: usize = 20_000;

#[tokio::test]
async fn who_comes_later_does_not_overtake_who_waited_for_room() {
    let client = client(Quirk::HangsInPublish, DEADLINE).await;
    let publisher = client.broker().publisher(EVENT, None).await.unwrap();
    let mut all_room = Box::pin(publisher.publish_batch((0..MANY).map(|_| NewMessage::raw("x"))));
    assert!(poll!(&mut all_room).is_pending());
    let mut waits = pin!(publisher.publish(NewMessage::raw("first")));
    assert!(poll!(&mut waits).is_pending());
    drop(all_room);
    let mut late = pin!(publisher.publish(NewMessage::raw("second")));
    assert!(poll!(&mut late).is_pending(), "there is room for both, and it is not its turn");
    let (first, second) = join(waits, late).await;
    let place = |receipt: Result<Receipt>| match receipt.unwrap().position {
        Position::Sequence(n) => n,
        other => panic!("MEMORY numbers its messages: {other}"),
    };
    assert!(place(first) < place(second));
}

#[tokio::test]
async fn a_closed_client_refuses_everything_but_another_close() {
    let client = client(Quirk::PanicsInSettle, DEADLINE).await;
    publish(&client, "before").await.unwrap();
    let publisher = client.broker().publisher(EVENT, None).await.unwrap();
    client.close().await.unwrap();
    client.close().await.unwrap();
    let closed = |error: Error| assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    closed(publish(&client, "after").await.unwrap_err());
    closed(publisher.publish(NewMessage::raw("after")).await.unwrap_err());
    closed(client.inspect(EVENT, None).await.unwrap_err());
    let subscribed = client.broker().subscribe(Subscribe::new(EVENT), |_: String| async {}).await;
    closed(subscribed.unwrap_err());
}
