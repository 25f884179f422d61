//! The broker that fails on demand does to each call what its rules say, and nothing to the others.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use ductape_core::client::{Client, Publish, Subscribe};
use ductape_core::config::MemoryConfig;
use ductape_core::error::Retry;
use ductape_core::message::{Attributes, IdSource, OCTET_STREAM};
use ductape_core::worker::Failure;
use ductape_core::{
    Broker, Clock, ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, Error, ErrorKind,
    Message, Position, Provider, ProviderConfig, Result, Settlement, Verdict,
};
use ductape_memory::MemoryProvider;
use ductape_testkit::fault::{Calls, Fault, Faults, FaultyProvider, Operation, Rule};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);
const NOW: Duration = Duration::ZERO;

struct Rig {
    faults: Faults,
    broker: Arc<dyn Broker>,
    orders: Destination,
}

impl Rig {
    async fn new() -> Rig {
        Rig::seeded(0).await
    }

    async fn seeded(seed: u64) -> Rig {
        let faults = Faults::seeded(seed);
        let provider = FaultyProvider::new(MemoryProvider::isolated(), faults.clone());
        let broker = connect(&provider).await.unwrap();
        let orders = Destination::new("orders", "billing");
        broker.ensure(&orders).await.unwrap();
        Rig { faults, broker, orders }
    }

    fn rule(&self, operation: Operation, fault: Fault) {
        self.faults.add(Rule::new(operation, fault));
    }

    async fn consumer(&self) -> Arc<dyn Consumer> {
        self.broker.consumer(&self.orders, &ConsumerOptions::new("billing")).await.unwrap()
    }

    async fn publish(&self, texts: &[&'static str]) -> Vec<Result<Position>> {
        self.publish_to(&self.orders, texts).await
    }

    async fn publish_to(&self, place: &Destination, texts: &[&'static str]) -> Vec<Result<Position>> {
        let publisher = self.broker.publisher(place).await.unwrap();
        publisher.publish(texts.iter().map(|text| message(text)).collect()).await
    }
}

async fn connect(provider: &FaultyProvider) -> Result<Arc<dyn Broker>> {
    let config = ProviderConfig::Memory(MemoryConfig::default());
    provider.connect(&config, &ConnectOptions::default()).await
}

fn message(text: &'static str) -> Message {
    let attributes =
        Attributes { source: "/t".into(), event: "t:t".into(), content_type: OCTET_STREAM.into() };
    let time = Clock::system().now();
    Message::new(text, IdSource::new().next(time), time, Arc::new(attributes))
}

fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| String::from_utf8_lossy(&d.message.payload).into_owned()).collect()
}

async fn settle(consumer: &dyn Consumer, delivery: &Delivery, verdict: Verdict) -> Result<()> {
    consumer.settle(vec![Settlement { token: delivery.token.clone(), verdict }]).await.pop().unwrap()
}

fn throttled() -> Fault {
    Fault::fail(Error::new(ErrorKind::Throttled, "slower").with_retry(Retry::Safe))
}

fn kinds<T>(results: Vec<Result<T>>) -> Vec<Option<ErrorKind>> {
    results.into_iter().map(|result| result.err().map(|error| error.kind())).collect()
}

#[tokio::test]
async fn without_rules_everything_passes_and_is_counted() {
    let rig = Rig::new().await;
    rig.publish(&["a", "b"]).await.into_iter().for_each(|result| drop(result.unwrap()));
    let consumer = rig.consumer().await;
    let deliveries = consumer.receive(10, SOON).await.unwrap();
    assert_eq!(texts(&deliveries), ["a", "b"]);
    settle(&*consumer, &deliveries[0], Verdict::Ack).await.unwrap();
    assert_eq!(rig.broker.inspect(&rig.orders).await.unwrap().groups[0].lag, Some(1));
    rig.broker.ping().await.unwrap();
    let calls = [Operation::Connect, Operation::Publish, Operation::Settle, Operation::Extend];
    assert_eq!(calls.map(|operation| rig.faults.calls(operation)), [1, 1, 1, 0]);
    assert_eq!(rig.faults.struck(), 0);
}

#[tokio::test]
async fn each_kind_of_calls_strikes_its_own() {
    let which = [
        (Calls::All, "xxxxxx"),
        (Calls::Nth(2), ".x...."),
        (Calls::First(2), "xx...."),
        (Calls::After(4), "....xx"),
        (Calls::Every(3), "..x..x"),
        (Calls::Every(0), "......"),
        (Calls::Chance(1.0), "xxxxxx"),
        (Calls::Chance(0.0), "......"),
    ];
    for (calls, expected) in which {
        let rig = Rig::new().await;
        rig.faults.add(Rule::new(Operation::Ping, throttled()).calls(calls));
        let mut struck = String::new();
        for _ in 0..expected.len() {
            struck.push(if rig.broker.ping().await.is_err() { 'x' } else { '.' });
        }
        assert_eq!(struck, expected, "{calls:?}");
        assert_eq!(rig.faults.struck() as usize, expected.matches('x').count());
    }
}

#[tokio::test]
async fn chance_is_the_same_for_the_same_seed() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let rig = Rig::seeded(seed).await;
        rig.faults.add(Rule::new(Operation::Ping, throttled()).calls(Calls::Chance(0.5)));
        let mut struck = Vec::new();
        for _ in 0..64 {
            struck.push(rig.broker.ping().await.is_err());
        }
        runs.push(struck);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
    assert!(runs[0].contains(&true) && runs[0].contains(&false));
}

#[tokio::test]
async fn a_failed_publish_takes_nothing_and_says_the_error_of_the_rule() {
    let rig = Rig::new().await;
    rig.rule(Operation::Publish, throttled());
    let errors: Vec<_> = rig.publish(&["a", "b"]).await.into_iter().map(Result::unwrap_err).collect();
    assert!(errors.iter().all(|e| e.kind() == ErrorKind::Throttled && e.retry() == Retry::Safe));
    rig.faults.clear();
    assert_eq!(rig.broker.inspect(&rig.orders).await.unwrap().messages, Some(0));
}

#[tokio::test]
async fn an_uncertain_publish_is_taken_and_answered_as_uncertain() {
    let rig = Rig::new().await;
    rig.rule(Operation::Publish, Fault::Uncertain);
    let error = rig.publish(&["a"]).await.pop().unwrap().unwrap_err();
    assert!(error.is_uncertain() && error.kind() == ErrorKind::Timeout);
    assert_eq!(texts(&rig.consumer().await.receive(10, SOON).await.unwrap()), ["a"]);
}

#[tokio::test]
async fn a_pretended_call_succeeds_and_does_nothing() {
    let rig = Rig::new().await;
    rig.publish(&["kept"]).await;
    let consumer = rig.consumer().await;
    let kept = consumer.receive(1, SOON).await.unwrap().remove(0);
    for operation in [Operation::Publish, Operation::Settle, Operation::CloseConsumer, Operation::Receive] {
        rig.rule(operation, Fault::Pretend);
    }
    assert_eq!(kinds(rig.publish(&["lost", "too"]).await), [None, None]);
    settle(&*consumer, &kept, Verdict::Ack).await.unwrap();
    consumer.close().await.unwrap();
    assert!(consumer.receive(1, SOON).await.unwrap().is_empty());
    let group = rig.broker.inspect(&rig.orders).await.unwrap().groups.remove(0);
    assert_eq!((group.lag, group.in_flight, group.members), (Some(1), 1, Some(1)));
}

#[tokio::test]
async fn a_lost_consumer_says_so_from_then_on_and_its_deliveries_come_back() {
    let rig = Rig::new().await;
    rig.publish(&["a"]).await;
    let consumer = rig.consumer().await;
    rig.faults.add(Rule::new(Operation::Receive, Fault::LoseConnection).calls(Calls::Nth(2)));
    let held = consumer.receive(1, SOON).await.unwrap().remove(0);
    for _ in 0..2 {
        assert_eq!(consumer.receive(1, SOON).await.unwrap_err().kind(), ErrorKind::ConnectionLost);
    }
    let late = settle(&*consumer, &held, Verdict::Ack).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::ConnectionLost);
    assert_eq!(texts(&rig.consumer().await.receive(1, SOON).await.unwrap()), ["a"]);
}

#[tokio::test]
async fn duplicates_are_published_or_handed_out_twice() {
    let rig = Rig::new().await;
    rig.faults.add(Rule::new(Operation::Publish, Fault::Duplicate).calls(Calls::Nth(1)));
    assert_eq!(kinds(rig.publish(&["a", "b"]).await), [None, None]);
    let consumer = rig.consumer().await;
    assert_eq!(texts(&consumer.receive(10, SOON).await.unwrap()), ["a", "b", "a", "b"]);
    rig.rule(Operation::Receive, Fault::Duplicate);
    rig.publish(&["c"]).await;
    assert_eq!(texts(&consumer.receive(10, SOON).await.unwrap()), ["c", "c"]);
}

#[tokio::test]
async fn reordering_changes_the_order_and_loses_nothing() {
    let rig = Rig::new().await;
    rig.faults.add(Rule::new(Operation::Publish, Fault::Reorder).calls(Calls::Nth(1)));
    let all = ["a", "b", "c", "d"];
    rig.publish(&all).await;
    let mut got = texts(&rig.consumer().await.receive(10, SOON).await.unwrap());
    assert_ne!(got, all);
    got.sort();
    assert_eq!(got, all);
}

#[tokio::test]
async fn edits_change_what_goes_in_and_what_comes_out() {
    let rig = Rig::new().await;
    rig.rule(Operation::Publish, Fault::edit_messages(|batch| drop(batch.pop())));
    assert_eq!(kinds(rig.publish(&["a", "b"]).await), [None, None], "what is dropped counts as taken");
    rig.rule(Operation::Receive, Fault::edit_deliveries(|all| all.iter_mut().for_each(|d| d.attempt = 9)));
    rig.rule(
        Operation::Settle,
        Fault::edit_settlements(|all| all.iter_mut().for_each(|s| s.verdict = Verdict::Ack)),
    );
    rig.rule(Operation::OpenConsumer, Fault::edit_options(|options| options.group = "billing".into()));
    let options = ConsumerOptions::new("audit");
    let consumer = rig.broker.consumer(&rig.orders, &options).await.unwrap();
    let got = consumer.receive(10, SOON).await.unwrap();
    assert_eq!((texts(&got), got[0].attempt), (vec!["a".into()], 9));
    settle(&*consumer, &got[0], Verdict::Retry(NOW)).await.unwrap();
    assert_eq!(rig.broker.inspect(&rig.orders).await.unwrap().groups[0].lag, Some(0));
}

#[tokio::test]
async fn a_rule_on_a_destination_leaves_the_others_alone() {
    let rig = Rig::new().await;
    let other = Destination::new("other", "billing");
    rig.broker.ensure(&other).await.unwrap();
    rig.faults.add(Rule::new(Operation::Publish, throttled()).on(|name| name == "other"));
    rig.faults.add(Rule::new(Operation::Ping, throttled()).on(|_| true));
    assert_eq!(kinds(rig.publish(&["a"]).await), [None]);
    assert_eq!(kinds(rig.publish_to(&other, &["a"]).await), [Some(ErrorKind::Throttled)]);
    rig.broker.ping().await.unwrap();
}

#[tokio::test]
async fn delays_come_before_or_after_the_call() {
    let by = Duration::from_millis(30);
    for (fault, taken) in [(Fault::Delay(by), 0), (Fault::DelayAnswer(by), 1)] {
        let rig = Rig::new().await;
        rig.rule(Operation::Publish, fault);
        let start = Instant::now();
        let publish = rig.publish(&["a"]);
        tokio::pin!(publish);
        assert!(futures_util::poll!(&mut publish).is_pending());
        assert_eq!(rig.broker.inspect(&rig.orders).await.unwrap().messages, Some(taken));
        publish.await.pop().unwrap().unwrap();
        assert!(start.elapsed() >= by);
    }
}

#[tokio::test]
async fn a_call_that_hangs_is_counted_and_can_be_given_up() {
    let rig = Rig::new().await;
    rig.rule(Operation::Ping, Fault::Hang);
    let broker = Arc::clone(&rig.broker);
    let ping = tokio::spawn(async move { broker.ping().await });
    tokio::time::timeout(SOON, rig.faults.wait_for_calls(Operation::Ping, 1)).await.unwrap();
    assert!(!ping.is_finished());
    ping.abort();
    rig.faults.clear();
    rig.broker.ping().await.unwrap();
}

#[tokio::test]
async fn connecting_and_capabilities_can_be_made_worse() {
    let faults = Faults::new();
    let provider = FaultyProvider::new(MemoryProvider::isolated(), faults.clone())
        .with_capabilities(|capabilities| capabilities.max_message_bytes = 10);
    faults.add(Rule::new(Operation::Connect, throttled()).calls(Calls::First(1)));
    assert_eq!(connect(&provider).await.err().unwrap().kind(), ErrorKind::Throttled);
    let broker = connect(&provider).await.unwrap();
    assert_eq!(broker.capabilities(&Destination::new("a", "b")).max_message_bytes, 10);
    assert_eq!(format!("{faults:?}"), "[First(1) of Connect: Fail(THROTTLED)]");
}

/// The client's own calls go through it like a worker's.
#[tokio::test]
async fn a_verdict_on_dead_letters_that_is_not_taken_is_told_again() {
    const EVENT: &str = "orders:new";
    let faults = Faults::seeded(0);
    let catalogue = serde_json::json!({
        "product": "shop",
        "brokers": [{
            "name": "Orders",
            "tag": "orders",
            "envs": [{ "slug": "dev", "type": "MEMORY", "config": {} }],
            "topics": [{ "name": "New", "tag": "new" }],
        }],
    });
    let client = Client::memory(serde_json::from_value(catalogue).unwrap());
    let client = client.provider(FaultyProvider::new(MemoryProvider::isolated(), faults.clone()));
    let client = client.build().await.unwrap();
    let reject = |_: Delivery| async { Err::<(), _>(Failure::reject("not today")) };
    let worker = client.broker().subscribe(Subscribe::new(EVENT), reject).await.unwrap();
    client.broker().publish(Publish::new(EVENT).payload("a")).await.unwrap();
    let begun = Instant::now();
    while worker.stats().dead_lettered < 1 {
        assert!(begun.elapsed() < SOON);
        tokio::task::yield_now().await;
    }
    worker.stop().await.unwrap();
    let letters = client.broker().dead_letters(EVENT, None).await.unwrap();
    let busy = || Error::new(ErrorKind::ProviderFailed, "busy").with_retry(Retry::Safe);
    faults.add(Rule::new(Operation::Settle, Fault::fail(busy())).calls(Calls::First(1)));
    assert_eq!(letters.list(9).await.unwrap().len(), 1, "given back at the second call");
    faults.add(Rule::new(Operation::Settle, Fault::fail(busy())));
    assert_eq!(letters.list(9).await.unwrap_err().kind(), ErrorKind::ProviderFailed);
}
