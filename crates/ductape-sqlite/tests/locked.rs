//! Another program keeps the file locked for a while: what failed meanwhile is not forgotten.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod support;

use ductape_core::{Broker, ConnectOptions, ErrorKind, Provider, ProviderConfig};
use ductape_sqlite::SqliteProvider;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use support::*;

/// Keeps the file from being written until it is dropped.
fn lock(file: &File) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(file.path()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

/// A connection that opens the file such that its writer does not wait long for a lock. Others share the writer.
async fn impatient(file: &File) -> Arc<dyn Broker> {
    let request_timeout = Duration::from_millis(100);
    let options = ConnectOptions { clock: file.clock.clone(), request_timeout, ..ConnectOptions::default() };
    SqliteProvider.connect(&ProviderConfig::Sqlite(file.config()), &options).await.unwrap()
}

async fn members(topic: &Topic) -> Option<u64> {
    topic.broker.inspect(&orders()).await.unwrap().groups[0].members
}

/// Polls once, and goes away.
async fn give_up_on<T>(future: impl Future<Output = T>) {
    let mut future = std::pin::pin!(future);
    let _ = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await;
}

#[tokio::test]
async fn a_close_that_failed_is_done_by_the_next() {
    let file = File::new();
    let _writer = impatient(&file).await;
    let topic = file.topic().await;
    topic.publish(&["k:1"]).await;
    topic.take().await;
    let locked = lock(&file);
    assert_eq!(topic.consumer.close().await.unwrap_err().kind(), ErrorKind::StorageFailed);
    drop(locked);
    topic.consumer.close().await.unwrap();
    topic.consumer.close().await.unwrap();
    assert_eq!(members(&topic).await, Some(0));
    let back = take(&*member(&*topic.broker).await).await;
    assert_eq!((texts(&back), attempts(&back)), (vec!["k:1".into()], vec![1]), "a close is not counted");
}

#[tokio::test]
async fn a_close_that_was_given_up_on_and_failed_is_seen_by_the_next() {
    let file = File::new();
    let _writer = impatient(&file).await;
    let topic = file.topic().await;
    topic.publish(&["k:1"]).await;
    topic.take().await;
    let locked = lock(&file);
    give_up_on(topic.consumer.close()).await;
    assert_eq!(topic.consumer.close().await.unwrap_err().kind(), ErrorKind::StorageFailed);
    drop(locked);
    topic.consumer.close().await.unwrap();
    assert_eq!(members(&topic).await, Some(0));
}

#[tokio::test]
async fn a_consumer_that_is_dropped_after_a_failed_close_leaves() {
    let file = File::new();
    let _writer = impatient(&file).await;
    let Topic { broker, publisher, consumer } = file.topic().await;
    for result in publisher.publish(vec![keyed("k:1")]).await {
        result.unwrap();
    }
    take(&*consumer).await;
    let locked = lock(&file);
    consumer.close().await.unwrap_err();
    drop(locked);
    drop(consumer);
    assert_eq!(texts(&take(&*member(&*broker).await).await), ["k:1"]);
}

#[tokio::test]
async fn what_could_not_be_given_back_is_given_back_by_the_next_receive_though_leases_are_renewed() {
    let file = File::new();
    let _writer = impatient(&file).await;
    let topic = file.topic().await;
    topic.publish(&["k:1", "k:2"]).await;
    // Asks for one, and goes away before the answer.
    give_up_on(topic.consumer.receive(1, SOON)).await;
    until("the claim", || async { topic.broker.inspect(&orders()).await.unwrap().groups[0].in_flight == 1 })
        .await;
    // As after a pause of the whole machine: the lease is over, and a program keeps the file.
    file.clock.advance(LEASE + LEASE);
    let locked = lock(&file);
    assert_eq!(topic.consumer.receive(1, SOON).await.unwrap_err().kind(), ErrorKind::StorageFailed);
    drop(locked);
    topic.consumer.extend().await.unwrap();
    let mut came = topic.take().await;
    if came.len() < 2 {
        came.extend(topic.take().await);
    }
    assert_eq!((texts(&came), attempts(&came)), (vec!["k:1".into(), "k:2".into()], vec![1, 1]));
}
