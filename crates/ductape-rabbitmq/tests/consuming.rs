//! What a consumer does where the server, a foreign publisher or its caller does something seldom.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::{
    Broker, Consumer, ConsumerOptions, Delivery, Destination, ErrorKind, Settlement, Verdict,
};
use ductape_testkit::servers::Server;
use futures_util::poll;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use support::{acks, connect, message, text};

const PATIENCE: Duration = Duration::from_secs(20);

/// A destination on the shared server.
struct Rig {
    server: Arc<Server>,
    broker: Arc<dyn Broker>,
    destination: Destination,
}

impl Rig {
    /// Nothing where the test is skipped, which is said.
    async fn new(test: &str) -> Option<Rig> {
        let server = support::shared(test).await?;
        let broker = connect(&support::config(server.endpoint()), PATIENCE).await.unwrap();
        let destination = support::destination("consuming");
        broker.ensure(&destination).await.unwrap();
        Some(Rig { server, broker, destination })
    }

    async fn publish(&self, count: usize) {
        let publisher = self.broker.publisher(&self.destination).await.unwrap();
        let batch = (0..count).map(|n| message(format!("{n}"))).collect();
        publisher.publish(batch).await.into_iter().for_each(|result| drop(result.unwrap()));
    }

    async fn consumer(&self) -> Arc<dyn Consumer> {
        let options = ConsumerOptions { max_in_flight: 2_000, ..ConsumerOptions::new("readers") };
        self.broker.consumer(&self.destination, &options).await.unwrap()
    }
}

/// Receives until so many are here.
async fn receive(consumer: &Arc<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        let some = consumer.receive(count - all.len(), PATIENCE).await.unwrap();
        assert!(!some.is_empty(), "{} of {count} came", all.len());
        all.extend(some);
    }
    all
}

/// The end lies behind what came before it, which one call takes with it, and stays the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_queue_is_deleted_hands_out_what_is_there_and_then_says_that_it_ended() {
    let Some(rig) = Rig::new("a consumer whose queue is deleted says that it ended").await else { return };
    rig.publish(6).await;
    let consumer = rig.consumer().await;
    let mut taken = receive(&consumer, 1).await;
    rig.broker.delete_group(&rig.destination, "readers").await.unwrap();
    // The consumer hears of it on its own connection. These make it likely that it has, and are no condition.
    for _ in 0..100 {
        rig.broker.ping().await.unwrap();
    }
    let error = loop {
        match consumer.receive(10, PATIENCE).await {
            Ok(some) => {
                assert!(!some.is_empty(), "silence after {}", taken.len());
                taken.extend(some);
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5"]);
    let error = consumer.receive(10, PATIENCE).await.expect_err("the end again");
    assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{error}");
    let another = rig.consumer().await;
    rig.publish(1).await;
    assert_eq!(text(&receive(&another, 1).await[0]), "0", "another goes on");
}

/// A quorum queue writes its own count over a publisher's where it delivers again, and leaves it at first.
#[tokio::test]
async fn a_count_that_a_foreign_publisher_wrote_is_no_attempt() {
    let Some(rig) = Rig::new("a count that a foreign publisher wrote is no attempt").await else { return };
    publish_foreign(&rig, AMQPValue::LongUInt(u32::MAX)).await;
    publish_foreign(&rig, AMQPValue::LongLongInt(40)).await;
    let consumer = rig.consumer().await;
    let first = receive(&consumer, 2).await;
    assert_eq!(first.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [1, 1]);
    let retries = first.iter().map(|delivery| Settlement {
        token: delivery.token.clone(),
        verdict: Verdict::Retry(Duration::ZERO),
    });
    consumer.settle(retries.collect()).await.into_iter().for_each(|result| result.unwrap());
    let second = receive(&consumer, 2).await;
    assert_eq!(second.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [2, 2]);
    consumer.settle(acks(&second)).await.into_iter().for_each(|result| result.unwrap());
}

async fn publish_foreign(rig: &Rig, count: AMQPValue) {
    let (endpoint, mut headers) = (rig.server.endpoint(), FieldTable::default());
    let mut address: lapin::uri::AMQPUri = format!("amqp://{}/%2f", endpoint.address).parse().unwrap();
    address.authority.userinfo.username = endpoint.username.clone().unwrap();
    address.authority.userinfo.password = endpoint.password.as_ref().unwrap().expose().to_owned();
    let connection = Connection::connect_uri(address, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(Default::default()).await.unwrap();
    headers.insert("x-delivery-count".into(), count);
    let properties = BasicProperties::default().with_headers(headers);
    let (key, options) = ((&*rig.destination.name).into(), BasicPublishOptions::default());
    let publish = channel.basic_publish("ductape".into(), key, options, b"foreign", properties);
    assert!(publish.await.unwrap().await.unwrap().is_ack());
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test]
async fn a_receive_may_wait_for_as_long_as_a_duration_can_say() {
    let Some(rig) = Rig::new("a receive may wait for as long as a duration can say").await else { return };
    rig.publish(1).await;
    let consumer = rig.consumer().await;
    assert_eq!(consumer.receive(1, Duration::MAX).await.unwrap().len(), 1);
}

/// And who settles the same again hears that it holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_settle_that_is_given_up_after_its_first_poll_has_told_the_server_all() {
    let Some(rig) = Rig::new("a settle that is given up has told the server all").await else { return };
    rig.publish(2_000).await;
    let consumer = rig.consumer().await;
    let deliveries = receive(&consumer, 2_000).await;
    // Every second, so that none stands for another; and one retry, so that they do not wait to be gathered.
    let odd: Vec<_> = deliveries.iter().skip(1).step_by(2).cloned().collect();
    let mut batch = acks(&odd);
    batch[0].verdict = Verdict::Retry(Duration::ZERO);
    let mut given_up = consumer.settle(batch.clone());
    assert!(poll!(&mut given_up).is_pending());
    drop(given_up);
    consumer.settle(batch).await.into_iter().for_each(|result| result.unwrap());
    consumer.close().await.unwrap();
    let again = receive(&rig.consumer().await, 1_001).await;
    let acknowledged: BTreeSet<_> = odd[1..].iter().map(text).collect();
    let back: Vec<_> = again.iter().map(text).filter(|text| acknowledged.contains(text)).collect();
    assert_eq!(back, Vec::<String>::new(), "acknowledged, and here again");
}
