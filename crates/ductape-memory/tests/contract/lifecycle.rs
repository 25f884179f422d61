//! Connections: what outlives them, and what closing does.

use crate::rig::*;
use ductape_core::config::{MemoryConfig, ProviderConfig};
use ductape_core::{ConnectOptions, ConsumerOptions, ErrorKind, Provider, Verdict};
use ductape_memory::MemoryProvider;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test]
async fn messages_outlive_the_connection_and_are_forgotten_on_reset() {
    let rig = Rig::new().await;
    rig.publish(&["1"]).await;
    rig.broker.close().await.unwrap();
    let again = rig.connect_again().await;
    assert_eq!(again.inspect(&rig.destination).await.unwrap().messages, Some(1));
    rig.provider.reset("default");
    let fresh = rig.connect_again().await;
    assert_eq!(fresh.inspect(&rig.destination).await.unwrap_err().kind(), ErrorKind::DestinationNotFound);
    assert!(again.inspect(&rig.destination).await.is_ok());
}

#[tokio::test]
async fn providers_of_the_process_share_by_name_and_isolated_ones_do_not() {
    let config =
        |name: &str| ProviderConfig::Memory(MemoryConfig { name: name.into(), ..MemoryConfig::default() });
    let options = ConnectOptions::default();
    let orders = ductape_core::Destination::new("orders", "billing");
    let one = MemoryProvider::new().connect(&config("sharing"), &options).await.unwrap();
    one.ensure(&orders).await.unwrap();
    let same = MemoryProvider::default().connect(&config("sharing"), &options).await.unwrap();
    assert!(same.inspect(&orders).await.is_ok());
    let other = MemoryProvider::new().connect(&config("another"), &options).await.unwrap();
    assert!(other.inspect(&orders).await.is_err());
    let isolated = MemoryProvider::isolated().connect(&config("sharing"), &options).await.unwrap();
    assert!(isolated.inspect(&orders).await.is_err());
}

#[tokio::test]
async fn a_consumer_that_is_closed_or_dropped_releases_what_it_had() {
    let rig = Rig::new().await;
    rig.publish(&["1", "2"]).await;
    let (one, other) = (rig.consumer().await, rig.consumer().await);
    let got = one.receive(1, PATIENCE).await.unwrap();
    one.close().await.unwrap();
    one.close().await.unwrap();
    assert_eq!(settle(&one, &got[0], Verdict::Ack).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(one.extend().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(one.receive(1, PATIENCE).await.unwrap_err().kind(), ErrorKind::Closed);
    let again = now(&other).await;
    assert_eq!((texts(&again), again[0].attempt), (vec!["1".into(), "2".into()], 1));
    drop(other);
    let back = now(&rig.consumer().await).await;
    assert_eq!(
        back.iter().map(|d| d.attempt).collect::<Vec<_>>(),
        [2, 2],
        "a close is not counted, a loss is"
    );
    assert_eq!(rig.group("billing").await.members, Some(0));
}

#[tokio::test]
async fn closing_a_consumer_ends_its_receive_and_wakes_another() {
    let rig = Rig::new().await;
    let one = rig.member("billing", Default::default(), 1).await;
    rig.publish(&["1"]).await;
    assert_eq!(now(&one).await.len(), 1);
    let other = rig.consumer().await;
    let waiter = one.clone();
    let ended = tokio::spawn(async move { waiter.receive(1, PATIENCE).await });
    let waiting = tokio::spawn(async move { other.receive(1, PATIENCE).await.map(|d| (d, other)) });
    settle_down().await;
    let closes = tokio::join!(one.close(), one.close());
    assert!(closes.0.is_ok() && closes.1.is_ok());
    assert_eq!(within(ended).await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(texts(&within(waiting).await.unwrap().unwrap().0), ["1"]);
}

#[tokio::test]
async fn after_the_close_of_a_connection_everything_on_it_says_so() {
    let rig = Rig::new().await;
    rig.publish(&["1"]).await;
    let (publisher, consumer) = (rig.publisher().await, rig.consumer().await);
    let got = now(&consumer).await;
    rig.broker.ping().await.unwrap();
    let closes = tokio::join!(rig.broker.close(), rig.broker.close());
    assert!(closes.0.is_ok() && closes.1.is_ok());
    let group = ConsumerOptions::new("billing");
    let kinds = [
        rig.broker.ping().await.unwrap_err(),
        rig.broker.ensure(&rig.destination).await.unwrap_err(),
        rig.broker.inspect(&rig.destination).await.unwrap_err(),
        rig.broker.delete_group(&rig.destination, "billing").await.unwrap_err(),
        rig.broker.publisher(&rig.destination).await.err().unwrap(),
        rig.broker.consumer(&rig.destination, &group).await.err().unwrap(),
        publisher.publish(vec![message("2")]).await.pop().unwrap().unwrap_err(),
        consumer.receive(1, PATIENCE).await.unwrap_err(),
        settle(&consumer, &got[0], Verdict::Ack).await.unwrap_err(),
    ]
    .map(|error| error.kind());
    assert_eq!(kinds, [ErrorKind::Closed; 9]);
    let again = rig.connect_again().await.consumer(&rig.destination, &group).await.unwrap();
    assert_eq!(texts(&now(&again).await), ["1"]);
}

#[tokio::test]
async fn the_config_of_another_provider_is_refused() {
    let json = serde_config();
    let error = MemoryProvider::isolated().connect(&json, &ConnectOptions::default()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.message().contains("SQLITE"), "{error}");
}

fn serde_config() -> ProviderConfig {
    ProviderConfig::Sqlite(ductape_core::config::SqliteConfig {
        path: "dev.db".into(),
        durability: Default::default(),
        retain: None,
        max_bytes: None,
    })
}

#[tokio::test]
async fn a_task_that_publishes_or_receives_without_end_lets_others_run() {
    let rig = Arc::new(Rig::new().await);
    let stop = Arc::new(AtomicBool::new(false));
    let (mine, stopped) = (rig.clone(), stop.clone());
    let busy = tokio::spawn(async move {
        let (publisher, consumer) = (mine.publisher().await, mine.consumer().await);
        let mut rounds = 0;
        while !stopped.load(Ordering::Relaxed) && rounds < 10_000 {
            publisher.publish(vec![message("1")]).await;
            consumer.receive(1, PATIENCE).await.unwrap();
            rounds += 1;
        }
        rounds
    });
    tokio::spawn(async move { stop.store(true, Ordering::Relaxed) });
    assert!(within(busy).await.unwrap() < 10_000);
}

#[tokio::test]
async fn a_consumer_that_may_hold_nothing_gets_nothing() {
    let rig = Rig::new().await;
    rig.publish(&["1"]).await;
    assert!(now(&rig.member("billing", Default::default(), 0).await).await.is_empty());
    assert_eq!(now(&rig.consumer().await).await.len(), 1);
}
