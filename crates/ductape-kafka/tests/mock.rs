//! What can be tried without a server: on librdkafka's own mock of a cluster, which makes no topics for others and
//! answers no admin client.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::broker::Provision;
use ductape_core::config::KafkaConfig;
use ductape_core::error::Retry;
use ductape_core::secret::Secret;
use ductape_core::{
    Broker, ConnectOptions, ConsumerOptions, Delivery, Destination, ErrorKind, Publisher, Settlement, Verdict,
};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use support::{connect, keyed};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(30);
const PARTITIONS: i32 = 4;

struct Rig {
    cluster: MockCluster<'static, DefaultProducerContext>,
    broker: Arc<dyn Broker>,
    destination: Destination,
}

async fn rig(request_timeout: Duration, properties: &[(&str, &str)]) -> Rig {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", PARTITIONS, 1).unwrap();
    let own = properties.iter().map(|(name, value)| ((*name).to_owned(), Secret::from(*value)));
    let config = KafkaConfig {
        brokers: vec![cluster.bootstrap_servers()],
        properties: own.collect(),
        ..KafkaConfig::default()
    };
    let options = ConnectOptions { request_timeout, ..ConnectOptions::default() };
    let broker = connect(config, options).await;
    let destination = Destination { provision: Provision::Verify, ..Destination::new("orders", "readers") };
    broker.ensure(&destination).await.unwrap();
    Rig { cluster, broker, destination }
}

fn ack(deliveries: &[Delivery]) -> Vec<Settlement> {
    let settlement =
        |delivery: &Delivery| Settlement { token: delivery.token.clone(), verdict: Verdict::Ack };
    deliveries.iter().map(settlement).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_received_in_the_order_of_its_key_and_stays_acknowledged() {
    let rig = rig(PATIENCE, &[]).await;
    let publisher = rig.broker.publisher(&rig.destination).await.unwrap();
    let batch: Vec<_> = (0..1_000).map(|n| keyed(&format!("key-{}", n % 10), n.to_string())).collect();
    let results = publisher.publish(batch).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let consumer = rig.broker.consumer(&rig.destination, &ConsumerOptions::new("readers")).await.unwrap();
    let mut keys: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut count = 0;
    while count < 1_000 {
        let got = consumer.receive(100, PATIENCE).await.unwrap();
        assert!(!got.is_empty(), "nothing after {count}");
        count += got.len();
        for delivery in &got {
            let number = std::str::from_utf8(&delivery.message.payload).unwrap().parse().unwrap();
            keys.entry(delivery.message.key.as_ref().unwrap().to_string()).or_default().push(number);
        }
        assert!(consumer.settle(ack(&got)).await.iter().all(Result::is_ok));
    }
    assert!(keys.len() == 10 && keys.values().all(|numbers| numbers.is_sorted()), "{keys:?}");
    consumer.close().await.unwrap();
    let again = rig.broker.consumer(&rig.destination, &ConsumerOptions::new("readers")).await.unwrap();
    publisher.publish(vec![keyed("key-0", "last")]).await.pop().unwrap().unwrap();
    let got = again.receive(100, PATIENCE).await.unwrap();
    assert_eq!(got.iter().map(|d| &d.message.payload[..]).collect::<Vec<_>>(), [b"last"]);
    again.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_sent_and_not_confirmed_is_uncertain() {
    let rig = rig(Duration::from_secs(1), &[]).await;
    let publisher = rig.broker.publisher(&rig.destination).await.unwrap();
    publisher.publish(vec![keyed("k", "first")]).await.pop().unwrap().unwrap();
    rig.cluster.broker_down(1).unwrap();
    let error = publisher.publish(vec![keyed("k", "lost")]).await.pop().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Timeout, Retry::Uncertain), "{error}");
    assert_eq!(error.context("destination"), Some("orders"));
    rig.cluster.broker_up(1).unwrap();
    until_taken(&publisher, "after").await;
}

/// Publishes until it is taken.
async fn until_taken(publisher: &Arc<dyn Publisher>, body: &'static str) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = publisher.publish(vec![keyed("k", body)]).await.pop().unwrap() {
        assert!(Instant::now() < deadline, "{error}");
        // tidy: sleeps because whoever tries again leaves the cluster a moment; the loop has a deadline.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_cluster_refuses_is_refused_alone() {
    let rig = rig(PATIENCE, &[]).await;
    let publisher = rig.broker.publisher(&rig.destination).await.unwrap();
    rig.cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED],
    );
    let error = publisher.publish(vec![keyed("k", "refused")]).await.pop().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::PermissionDenied, Retry::Never), "{error}");
    // Once the right is given it goes on, as soon as the client has asked for the topic again.
    until_taken(&publisher, "taken").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_fatal_error_another_producer_takes_what_comes() {
    let rig = rig(PATIENCE, &[]).await;
    let publisher = rig.broker.publisher(&rig.destination).await.unwrap();
    publisher.publish(vec![keyed("k", "first")]).await.pop().unwrap().unwrap();
    // With nothing else under way this says that producer and cluster disagree on what was sent.
    rig.cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER],
    );
    let error = publisher.publish(vec![keyed("k", "fatal")]).await.pop().unwrap().unwrap_err();
    assert!(error.is_uncertain(), "{error:?}");
    publisher.publish(vec![keyed("k", "after")]).await.pop().unwrap().unwrap();
    rig.broker.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_makes_a_publish_wait_and_keeps_the_order() {
    let rig = rig(PATIENCE, &[("queue.buffering.max.messages", "16")]).await;
    let publisher = rig.broker.publisher(&rig.destination).await.unwrap();
    let calls = (0..10).map(|call| {
        let batch = (0..50).map(|n| keyed("k", (call * 50 + n).to_string())).collect();
        publisher.publish(batch)
    });
    let results: Vec<_> = futures_util::future::join_all(calls).await.into_iter().flatten().collect();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let consumer = rig.broker.consumer(&rig.destination, &ConsumerOptions::new("readers")).await.unwrap();
    let mut numbers: Vec<u32> = Vec::new();
    while numbers.len() < 500 {
        let got = consumer.receive(500, PATIENCE).await.unwrap();
        assert!(!got.is_empty(), "nothing after {}", numbers.len());
        numbers.extend(
            got.iter().map(|d| std::str::from_utf8(&d.message.payload).unwrap().parse::<u32>().unwrap()),
        );
        consumer.settle(ack(&got)).await;
    }
    assert!(numbers.iter().copied().eq(0..500), "{numbers:?}");
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_stays_full_refuses_in_its_time_what_was_never_sent() {
    let rig = rig(Duration::from_secs(2), &[("queue.buffering.max.messages", "8")]).await;
    let publisher = rig.broker.publisher(&rig.destination).await.unwrap();
    rig.cluster.broker_down(1).unwrap();
    let batch: Vec<_> = (0..20).map(|n| keyed("k", n.to_string())).collect();
    let results = tokio::time::timeout(PATIENCE, publisher.publish(batch)).await.expect("a bounded wait");
    assert_eq!(results.len(), 20);
    assert!(
        results.iter().all(|result| result.as_ref().is_err_and(|e| e.retry() != Retry::Never)),
        "{results:?}"
    );
}
