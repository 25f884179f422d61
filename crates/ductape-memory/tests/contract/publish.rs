//! Publishing: positions, batches, and bounds that make publishers wait.

use crate::rig::*;
use ductape_core::config::MemoryConfig;
use ductape_core::{ErrorKind, Start};
use std::time::Duration;

fn bounded(max_messages: usize, max_bytes: usize) -> MemoryConfig {
    MemoryConfig { max_messages, max_bytes, ..MemoryConfig::default() }
}

#[tokio::test]
async fn a_batch_is_numbered_on_and_delivered_as_it_was_published() {
    let rig = Rig::new().await;
    let mut odd = message("k=odd");
    odd.payload = vec![0xff, 0, 0xfe].into();
    odd.headers.append("a", vec![0xff]);
    odd.headers.append("a", "2");
    let publisher = rig.publisher().await;
    let taken = publisher.publish(vec![message("first"), odd.clone()]).await;
    assert_eq!(taken.iter().map(|r| r.as_ref().unwrap().to_string()).collect::<Vec<_>>(), ["1", "2"]);
    let got = now(&rig.consumer().await).await;
    assert_eq!((got[0].message.clone(), got[1].message.clone()), (message("first"), odd));
    assert_eq!(got.iter().map(|d| d.attempt).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn a_full_destination_makes_publish_wait_until_there_is_room() {
    let rig = Rig::with(bounded(2, 1 << 20)).await;
    let consumer = rig.consumer().await;
    let publisher = rig.publisher().await;
    let batch = ["1", "2", "3"].map(message).to_vec();
    let waiting = tokio::spawn(async move { publisher.publish(batch).await });
    let got = within(consumer.receive(10, PATIENCE)).await.unwrap();
    settle_down().await;
    assert!(!waiting.is_finished());
    ack_all(&consumer, &got[..1]).await;
    let results = within(waiting).await.unwrap();
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(rig.group("billing").await.lag, Some(2));
}

#[tokio::test]
async fn bytes_are_bounded_too_and_one_message_over_the_bound_fails_alone() {
    let rig = Rig::with(bounded(100, 8)).await;
    let results = rig.publish(&["four", "far too long", "4444"]).await;
    assert!(results[0].is_ok() && results[2].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::MessageTooLarge);
    assert_eq!(rig.broker.capabilities(&rig.destination).max_message_bytes, 8);
    let publisher = rig.publisher().await;
    let mut third = publisher.publish(vec![message("x")]);
    assert!(futures_pending(&mut third));
}

#[tokio::test]
async fn after_the_deadline_the_rest_is_refused_and_the_error_names_the_group_that_lags() {
    let rig = Rig::with(bounded(2, 1 << 20)).await;
    let quick = rig.member("quick", Start::Latest, 10).await;
    let publisher = rig.publisher().await;
    let batch = ["1", "2", "3"].map(message).to_vec();
    let waiting = tokio::spawn(async move { publisher.publish(batch).await });
    let got = within(quick.receive(10, PATIENCE)).await.unwrap();
    ack_all(&quick, &got).await;
    settle_down().await;
    rig.clock.advance(Duration::from_secs(30));
    let results = within(waiting).await.unwrap();
    assert!(results[0].is_ok() && results[1].is_ok());
    let error = results[2].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::DestinationFull, true));
    assert_eq!((error.context("group"), error.context("destination")), (Some("billing"), Some("orders")));
    assert!(error.to_string().contains("2 messages to settle"), "{error}");
}

#[tokio::test]
async fn publishes_that_wait_are_taken_in_the_order_of_their_calls_also_when_one_gives_up() {
    let rig = Rig::with(bounded(1, 1 << 20)).await;
    rig.publish(&["0"]).await;
    let publisher = rig.publisher().await;
    let mut waiting = Vec::new();
    for n in 1..=6 {
        let publisher = publisher.clone();
        waiting.push(tokio::spawn(async move { publisher.publish(vec![message(&n.to_string())]).await }));
        settle_down().await;
    }
    waiting[0].abort();
    waiting[3].abort();
    let consumer = rig.consumer().await;
    let mut got = Vec::new();
    while got.len() < 5 {
        let next = within(consumer.receive(1, PATIENCE)).await.unwrap();
        ack_all(&consumer, &next).await;
        got.extend(texts(&next));
    }
    assert_eq!(got, ["0", "2", "3", "5", "6"]);
    // Nobody waits any more: the next one goes straight through.
    assert!(rig.publish(&["7"]).await[0].is_ok());
}

#[tokio::test]
async fn a_late_publish_does_not_overtake_one_that_waits_although_it_would_fit() {
    let rig = Rig::with(bounded(100, 10)).await;
    rig.publish(&["12345678"]).await;
    let publisher = rig.publisher().await;
    let mut long = publisher.publish(vec![message("12345")]);
    assert!(futures_pending(&mut long));
    let mut short = publisher.publish(vec![message("1")]);
    assert!(futures_pending(&mut short));
    let consumer = rig.consumer().await;
    ack_all(&consumer, &now(&consumer).await).await;
    within(long).await;
    within(short).await;
    assert_eq!(texts(&now(&consumer).await), ["12345", "1"]);
}

#[tokio::test]
async fn a_publish_that_waits_ends_when_its_connection_is_closed() {
    let rig = Rig::with(bounded(1, 1 << 20)).await;
    let publisher = rig.publisher().await;
    let waiting = tokio::spawn(async move { publisher.publish(["1", "2"].map(message).to_vec()).await });
    settle_down().await;
    rig.broker.close().await.unwrap();
    let results = within(waiting).await.unwrap();
    assert!(results[0].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_bound_of_nothing_is_refused_at_connect() {
    use ductape_core::Provider;
    let config = ductape_core::config::ProviderConfig::Memory(bounded(0, 1));
    let provider = ductape_memory::MemoryProvider::isolated();
    let error = provider.connect(&config, &Default::default()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.to_string().contains("maxMessages"));
}

fn futures_pending<F: std::future::Future + Unpin>(future: &mut F) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context).is_pending()
}
