//! What can be tried without a server: on librdkafka's own mock of a cluster, which makes no topics for others and
//! answers no admin client.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::broker::Provision;
use ductape_core::config::KafkaConfig;
use ductape_core::error::Retry;
use ductape_core::secret::Secret;
use ductape_core::{
    Broker, ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, Error, ErrorKind, Publisher,
    Settlement, Verdict,
};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use support::{connect, keyed, take};
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
    full_queue_keeps_the_order("16").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_one_message_takes_one_after_the_other() {
    full_queue_keeps_the_order("1").await;
}

async fn full_queue_keeps_the_order(length: &str) {
    let rig = rig(PATIENCE, &[("queue.buffering.max.messages", length)]).await;
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

/// Messages stay in the queue for longer than any of these tests.
const STAYS: (&str, &str) = ("message.timeout.ms", "60000");

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_behind_a_full_wait_is_refused_before_its_caller_gives_up() {
    let limit = Duration::from_secs(2);
    let rig = rig(limit, &[("queue.buffering.max.messages", "8"), STAYS]).await;
    let publisher = rig.broker.publisher(&rig.destination).await.unwrap();
    rig.cluster.broker_down(1).unwrap();
    let mut queued = Box::pin(publisher.publish((0..8).map(|n| keyed("k", n.to_string())).collect()));
    assert!(futures_util::poll!(&mut queued).is_pending());
    let calls = (0..3)
        .map(|_| async { tokio::time::timeout(limit, publisher.publish(vec![keyed("k", "late")])).await });
    for answer in futures_util::future::join_all(calls).await {
        let error = answer.expect("an answer in time").pop().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::DestinationFull, Retry::Safe), "{error}");
        assert_eq!(error.context("destination"), Some("orders"));
    }
}

/// Publishes while the runtime's only thread does something else as well, and says how often it could.
async fn beside_others(publisher: &Arc<dyn Publisher>, size: usize) -> (ductape_core::Error, usize) {
    let publishing = publisher.publish(vec![keyed("k", vec![b'x'; size])]);
    tokio::pin!(publishing);
    let (mut ticks, mut tick) = (0, tokio::time::interval(Duration::from_millis(10)));
    loop {
        tokio::select! {
            results = &mut publishing => return (results.into_iter().next().unwrap().unwrap_err(), ticks),
            _ = tick.tick() => ticks += 1,
        }
    }
}

#[tokio::test]
async fn a_message_longer_than_the_whole_queue_is_refused_at_once() {
    let rig = rig(PATIENCE, &[("queue.buffering.max.kbytes", "1")]).await;
    let publisher = rig.broker.publisher(&rig.destination).await.unwrap();
    let start = Instant::now();
    let (error, _) = beside_others(&publisher, 1025).await;
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    assert_eq!((error.kind(), error.retry()), (ErrorKind::MessageTooLarge, Retry::Never), "{error}");
    assert_eq!(error.context("destination"), Some("orders"));
    assert!(error.help().unwrap().contains("queue.buffering.max.kbytes"), "{error}");
    assert_eq!(rig.broker.capabilities(&rig.destination).max_message_bytes, 1024);
    publisher.publish(vec![keyed("k", vec![b'x'; 1024])]).await.pop().unwrap().unwrap();
}

#[tokio::test]
async fn a_wait_behind_a_single_message_leaves_the_runtime_to_others() {
    let rig = rig(Duration::from_secs(1), &[("queue.buffering.max.kbytes", "1"), STAYS]).await;
    let publisher = rig.broker.publisher(&rig.destination).await.unwrap();
    rig.cluster.broker_down(1).unwrap();
    let mut queued = Box::pin(publisher.publish(vec![keyed("k", vec![b'x'; 700])]));
    assert!(futures_util::poll!(&mut queued).is_pending());
    let (error, ticks) = beside_others(&publisher, 700).await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::DestinationFull, Retry::Safe), "{error}");
    assert!(ticks > 10, "{ticks}");
}

impl Rig {
    async fn consumer(&self) -> Arc<dyn Consumer> {
        self.broker.consumer(&self.destination, &ConsumerOptions::new("readers")).await.unwrap()
    }

    /// A client of the group that is no member of it.
    fn group(&self) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.cluster.bootstrap_servers()).set("group.id", "readers");
        config.create().unwrap()
    }

    /// Commits this in every partition.
    fn commit(&self, offset: i64, metadata: &str) {
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            let mut element = list.add_partition("orders", partition);
            element.set_offset(Offset::Offset(offset)).unwrap();
            element.set_metadata(metadata);
        }
        self.group().commit(&list, CommitMode::Sync).unwrap();
    }

    /// What is committed in every partition.
    fn committed(&self) -> Vec<(Offset, String)> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range("orders", 0, PARTITIONS - 1);
        let found = self.group().committed_offsets(list, PATIENCE).unwrap();
        found.elements().iter().map(|element| (element.offset(), element.metadata().to_owned())).collect()
    }
}

/// Receives until the consumer tells of a fault.
async fn until_told(consumer: &Arc<dyn Consumer>) -> Error {
    let told = async {
        loop {
            if let Err(error) = consumer.receive(100, Duration::from_millis(100)).await {
                return error;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("a fault is told")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_to_which_nothing_comes_leaves_what_is_committed_as_it_is() {
    let rig = rig(PATIENCE, &[]).await;
    rig.commit(0, "ductape attempts=2 done=2-10");
    rig.consumer().await.close().await.unwrap();
    let expected = (Offset::Offset(0), "ductape attempts=2 done=2-10".to_owned());
    assert_eq!(rig.committed(), vec![expected; PARTITIONS as usize]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_a_log_shorter_than_what_is_committed_is_received() {
    let rig = rig(PATIENCE, &[]).await;
    rig.commit(1_000, "");
    let publisher = rig.broker.publisher(&rig.destination).await.unwrap();
    let batch = (0..5).map(|n| keyed("k", n.to_string())).collect();
    assert!(publisher.publish(batch).await.iter().all(Result::is_ok));
    let consumer = rig.consumer().await;
    let got = take(&consumer, 5).await;
    assert!(consumer.settle(ack(&got)).await.iter().all(Result::is_ok));
    consumer.close().await.unwrap();
    assert!(rig.committed().contains(&(Offset::Offset(5), String::new())), "{:?}", rig.committed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_fenced_says_so_and_closes() {
    let rig = rig(PATIENCE, &[("group.instance.id", "one"), ("heartbeat.interval.ms", "100")]).await;
    let consumer = rig.consumer().await;
    rig.cluster
        .request_errors(RDKafkaApiKey::Heartbeat, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID]);
    let error = until_told(&consumer).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    let closing = tokio::time::timeout(Duration::from_secs(3), consumer.close());
    closing.await.expect("a close in time").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_refused_is_told_although_nobody_waits_for_it() {
    let rig = rig(PATIENCE, &[]).await;
    let publisher = rig.broker.publisher(&rig.destination).await.unwrap();
    let consumer = rig.consumer().await;
    rig.cluster.request_errors(
        RDKafkaApiKey::OffsetCommit,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 1_000],
    );
    publisher.publish(vec![keyed("k", "counted")]).await.pop().unwrap().unwrap();
    let error = until_told(&consumer).await;
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_eq!(error.context("group"), Some("readers"));
    rig.cluster.clear_request_errors(RDKafkaApiKey::OffsetCommit);
    let received = async {
        loop {
            match consumer.receive(100, PATIENCE).await {
                Ok(got) => return got,
                Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}"),
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, received).await.expect("it goes on").len(), 1);
    consumer.close().await.unwrap();
}
