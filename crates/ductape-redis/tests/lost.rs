//! Consumers that are lost, late or replaced, on a real server: what they had comes back, once and in its order, and they
//! take nothing from whoever has their name next.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::config::{ProviderConfig, RedisConfig, RedisMode};
use ductape_core::{
    Broker, ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, ErrorKind, Provider,
    Settlement, Verdict,
};
use ductape_redis::RedisProvider;
use ductape_testkit::servers::Proxy;
use futures_util::poll;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::rig::{LEASE, PATIENCE, QUIET, Rig, options, ordered, publish, settle, take, texts};

const LONG: Duration = Duration::from_secs(300);
const KEY: &str = "{s}:ductape-leader:g";

fn named(name: &str, lease: Duration) -> ConsumerOptions {
    ConsumerOptions { member: name.into(), lease, ..options() }
}

/// Waits out a lease that nobody renews.
async fn past_the_lease() {
    // tidy: sleeps because a lease runs by the clock itself
    tokio::time::sleep(LEASE + LEASE / 10).await;
}

/// A consumer that is lost, since a verdict has no answer: whoever waited for it did not wait long enough.
async fn lost(
    broker: &Arc<dyn Broker>,
    stream: &Destination,
    options: &ConsumerOptions,
) -> Arc<dyn Consumer> {
    let consumer = broker.consumer(stream, options).await.unwrap();
    loop {
        publish(broker, stream, &["first"]).await;
        let first = take(&consumer, 1).await.remove(0);
        let mut settling = consumer.settle(vec![Settlement { token: first.token, verdict: Verdict::Ack }]);
        // On a busy machine the answer may be here before the poll has ended.
        if poll!(&mut settling).is_pending() {
            break;
        }
    }
    let told = consumer.receive(1, PATIENCE).await.unwrap_err();
    assert_eq!(told.kind(), ErrorKind::ConnectionLost, "{told}");
    consumer
}

/// Takes until these are there, and renews what it has as the worker does.
async fn take_all(consumer: &Arc<dyn Consumer>, wanted: &[&str]) -> Vec<Delivery> {
    let (start, mut taken) = (Instant::now(), Vec::new());
    let mut missing: BTreeSet<_> = wanted.iter().map(|text| (*text).to_owned()).collect();
    while !missing.is_empty() {
        assert!(start.elapsed() < PATIENCE, "never came: {missing:?}");
        consumer.extend().await.unwrap();
        let some = consumer.receive(100, LEASE / 3).await.unwrap();
        missing.retain(|text| !texts(&some).contains(text));
        taken.extend(some);
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_consumer_fetches_nothing_that_its_successor_would_get() {
    let Some(rig) = Rig::start("a lost consumer fetches nothing any more").await else { return };
    let (broker, stream) = (rig.connect().await, Destination::new("s", "g"));
    broker.ensure(&stream).await.unwrap();
    let old = lost(&broker, &stream, &named("m", LEASE)).await;
    let new = broker.consumer(&stream, &named("m", LEASE)).await.unwrap();
    let published: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    let published: Vec<_> = published.iter().map(String::as_str).collect();
    for text in &published {
        publish(&broker, &stream, &[text]).await;
    }
    take_all(&new, &published).await;
    drop(old);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlived_its_lease_unfetched_comes_again_while_others_are_renewed() {
    let Some(rig) = Rig::start("what outlived its lease unfetched comes again").await else { return };
    let (broker, stream) = (rig.connect().await, Destination::new("s", "g"));
    broker.ensure(&stream).await.unwrap();
    publish(&broker, &stream, &["a", "b"]).await;
    let consumer = broker.consumer(&stream, &options()).await.unwrap();
    assert_eq!(texts(&take(&consumer, 1).await), ["a"]);
    past_the_lease().await;
    // This lets it go from memory.
    assert!(consumer.receive(1, Duration::ZERO).await.unwrap().is_empty());
    let came = take_all(&consumer, &["b"]).await;
    assert_eq!(texts(&came), ["b"], "what is renewed stays where it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_its_lease_keeps_its_place_while_its_member_is_elected() {
    let Some(rig) = Rig::start("a retry after its lease keeps its place").await else { return };
    let (broker, stream) = (rig.connect().await, ordered("s"));
    broker.ensure(&stream).await.unwrap();
    for (verdict, attempt) in [(Verdict::Retry(Duration::ZERO), 2), (Verdict::Release, 1)] {
        publish(&broker, &stream, &["a", "b"]).await;
        let consumer = broker.consumer(&stream, &options()).await.unwrap();
        let first = take(&consumer, 1).await;
        past_the_lease().await;
        assert_eq!(settle(&consumer, &first, verdict).await, [None]);
        let again = take(&consumer, 2).await;
        assert_eq!((texts(&again), again[0].attempt), (vec!["a".to_owned(), "b".to_owned()], attempt));
        settle(&consumer, &again, Verdict::Ack).await;
        consumer.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_lost_consumer_gives_away_nothing_of_its_successors() {
    let Some(rig) = Rig::start("the end of a lost consumer gives away nothing").await else { return };
    let (broker, stream) = (rig.connect().await, Destination::new("s", "g"));
    broker.ensure(&stream).await.unwrap();
    for is_closed in [false, true] {
        let old = lost(&broker, &stream, &named("m", LONG)).await;
        let new = broker.consumer(&stream, &named("m", LONG)).await.unwrap();
        publish(&broker, &stream, &["a"]).await;
        let held = take_all(&new, &["a"]).await;
        if is_closed {
            old.close().await.unwrap();
        }
        drop(old);
        let third = broker.consumer(&stream, &named("third", LONG)).await.unwrap();
        assert_eq!(texts(&third.receive(10, QUIET * 3).await.unwrap()), [""; 0]);
        let settled = settle(&new, &held, Verdict::Ack).await;
        assert!(settled.iter().all(Option::is_none), "{settled:?}");
        new.close().await.unwrap();
        third.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_about_an_old_term_does_not_end_the_new_one() {
    let Some(rig) = Rig::start("a late answer about an old term").await else { return };
    let (broker, stream) = (rig.connect().await, ordered("s"));
    broker.ensure(&stream).await.unwrap();
    let consumer = broker.consumer(&stream, &options()).await.unwrap();
    let handle = async |text: &str| {
        publish(&broker, &stream, &[text]).await;
        let taken = take(&consumer, 1).await;
        assert_eq!(texts(&taken), [text]);
        assert_eq!(settle(&consumer, &taken, Verdict::Ack).await, [None]);
    };
    let extending = loop {
        handle("a").await;
        rig.ask::<()>(&["DEL", KEY]).await;
        let mut extending = consumer.extend();
        // As above.
        if poll!(&mut extending).is_pending() {
            break extending;
        }
    };
    let start = Instant::now();
    let term = loop {
        if let Some(term) = rig.ask::<Option<String>>(&["GET", KEY]).await {
            break term;
        }
        assert!(start.elapsed() < PATIENCE, "nobody is elected");
    };
    handle("b").await;
    extending.await.unwrap();
    handle("c").await;
    assert_eq!(rig.ask::<Option<String>>(&["GET", KEY]).await, Some(term));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_hears_nothing_any_more_is_told_as_lost() {
    let Some(rig) = Rig::start("a subscription that hears nothing any more is lost").await else { return };
    let proxy = Proxy::start(&rig.server.endpoint().address).unwrap();
    let config = RedisConfig { port: Some(proxy.port()), mode: RedisMode::Pubsub, ..rig.config.clone() };
    let soon = ConnectOptions { request_timeout: Duration::from_millis(500), ..ConnectOptions::default() };
    let broker = RedisProvider.connect(&ProviderConfig::Redis(config), &soon).await.unwrap();
    let channel = Destination::new("c", "g");
    let consumer = broker.consumer(&channel, &ConsumerOptions::new("g")).await.unwrap();
    publish(&broker, &channel, &["a", "b"]).await;
    assert_eq!(texts(&take(&consumer, 1).await), ["a"]);
    consumer.extend().await.unwrap();
    proxy.stall();
    assert_eq!(consumer.extend().await.unwrap_err().kind(), ErrorKind::ConnectionLost);
    assert_eq!(texts(&take(&consumer, 1).await), ["b"], "what is here is handed out yet");
    assert_eq!(consumer.receive(1, PATIENCE).await.unwrap_err().kind(), ErrorKind::ConnectionLost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_may_wait_and_hold_for_ever() {
    let Some(rig) = Rig::start("a consumer may wait and hold for ever").await else { return };
    let endless = ConsumerOptions { lease: Duration::MAX, max_in_flight: usize::MAX, ..options() };
    for mode in [RedisMode::Stream, RedisMode::Pubsub] {
        let config = ProviderConfig::Redis(RedisConfig { mode, ..rig.config.clone() });
        let broker = RedisProvider.connect(&config, &ConnectOptions::default()).await.unwrap();
        for stream in [Destination::new("p", "g"), ordered("o")] {
            broker.ensure(&stream).await.unwrap();
            let consumer = broker.consumer(&stream, &endless).await.unwrap();
            publish(&broker, &stream, &["a"]).await;
            let taken = consumer.receive(1, Duration::MAX);
            let taken = tokio::time::timeout(PATIENCE, taken).await.unwrap().unwrap();
            consumer.extend().await.unwrap();
            assert_eq!(settle(&consumer, &taken, Verdict::Ack).await, [None]);
            consumer.close().await.unwrap();
        }
    }
}
