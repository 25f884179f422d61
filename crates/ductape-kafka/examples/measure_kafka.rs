//! How fast this provider is beside the client library's own fastest use, and what compression and waiting for company
//! cost: `cargo run --release -p ductape-kafka --example measure_kafka -- localhost:9092`, or without an address on a server that
//! it starts.
//!
//! Departures of the example of that name, keyed by tail number, to topics of four partitions. Each figure is the best
//! of three; raw and ours alternate.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on has failed")]

use ductape_core::config::{KafkaConfig, ProviderConfig};
use ductape_core::message::{Attributes, IdSource, JSON};
use ductape_core::secret::Secret;
use ductape_core::{
    Broker, Clock, ConnectOptions, ConsumerOptions, Destination, Message, Provider, Settlement, Start,
    Verdict,
};
use ductape_kafka::KafkaProvider;
use ductape_testkit::servers::{self, Kind, Options};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FLIGHTS: &str = include_str!("../../ductape/examples/departures/departures.ndjson");
const MESSAGES: usize = 50_000;
const BATCH: usize = 500;
const PATIENCE: Duration = Duration::from_secs(30);

fn key_of(line: &str) -> &str {
    let (_, rest) = line.split_once("\"tailNumber\":\"").unwrap_or(("", "none\""));
    rest.split('"').next().unwrap_or("none")
}

fn messages() -> Vec<Message> {
    let (mut ids, now) = (IdSource::new(), Clock::system().now());
    let attributes = Arc::new(Attributes {
        source: "/delay-board".into(),
        event: "airport:departures".into(),
        content_type: JSON.into(),
    });
    let message = |line: &'static str| {
        let mut message = Message::new(line, ids.next(now), now, Arc::clone(&attributes));
        message.key = Some(key_of(line).into());
        message
    };
    FLIGHTS.lines().cycle().take(MESSAGES).map(message).collect()
}

async fn broker(address: &str, properties: &[(&str, &str)]) -> Arc<dyn Broker> {
    let own = properties.iter().map(|(name, value)| ((*name).to_owned(), Secret::from(*value)));
    let config = KafkaConfig {
        brokers: vec![address.to_owned()],
        partitions: Some(4),
        properties: own.collect(),
        ..KafkaConfig::default()
    };
    KafkaProvider.connect(&ProviderConfig::Kafka(config), &ConnectOptions::default()).await.unwrap()
}

async fn topic(broker: &Arc<dyn Broker>) -> Destination {
    let destination = Destination::new(format!("measure-{:016x}", fastrand::u64(..)), "readers");
    broker.ensure(&destination).await.unwrap();
    destination
}

fn rate(start: Instant) -> f64 {
    MESSAGES as f64 / start.elapsed().as_secs_f64()
}

/// Eight callers, each a batch at a time, until all are confirmed.
async fn publish(broker: &Arc<dyn Broker>, destination: &Destination) -> f64 {
    let publisher = broker.publisher(destination).await.unwrap();
    let all = messages();
    let start = Instant::now();
    let calls = all.chunks(MESSAGES / 8).map(|part| {
        let (publisher, part) = (Arc::clone(&publisher), part.to_vec());
        tokio::spawn(async move {
            for batch in part.chunks(BATCH) {
                publisher.publish(batch.to_vec()).await.into_iter().for_each(|result| drop(result.unwrap()));
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    rate(start)
}

async fn consume(broker: &Arc<dyn Broker>, destination: &Destination) -> f64 {
    let group = format!("measure-{:016x}", fastrand::u64(..));
    let options =
        ConsumerOptions { max_in_flight: 2_000, start: Start::Earliest, ..ConsumerOptions::new(group) };
    let consumer = broker.consumer(destination, &options).await.unwrap();
    let (mut count, start) = (0, Instant::now());
    while count < MESSAGES {
        let got = consumer.receive(BATCH, PATIENCE).await.unwrap();
        count += got.len();
        let verdict = Verdict::Ack;
        let acks = got.into_iter().map(|delivery| Settlement { token: delivery.token, verdict }).collect();
        consumer.settle(acks).await.into_iter().for_each(|result| result.unwrap());
    }
    let rate = rate(start);
    consumer.close().await.unwrap();
    rate
}

fn raw_config(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("enable.idempotence", "true").set("acks", "all");
    config.set("compression.type", "lz4").set("linger.ms", "1").set("partitioner", "murmur2_random");
    config
}

/// The client library with the same promises, headers and bytes: one thread that sends, one that polls.
fn raw_publish(address: &str, topic: &str, headers: &OwnedHeaders) -> f64 {
    let producer: ThreadedProducer<DefaultProducerContext> = raw_config(address).create().unwrap();
    let all = messages();
    let start = Instant::now();
    for message in &all {
        let key = message.key.as_ref().unwrap().as_bytes();
        let mut record =
            BaseRecord::to(topic).key(key).payload(&message.payload[..]).headers(headers.clone());
        while let Err((error, back)) = producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            std::thread::sleep(Duration::from_millis(1));
            record = back;
        }
    }
    producer.flush(PATIENCE).unwrap();
    rate(start)
}

fn raw_consume(address: &str, topic: &str) -> f64 {
    let group = format!("raw-{:016x}", fastrand::u64(..));
    let mut config = raw_config(address);
    config.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    // The time runs once the member has its partitions, as it does for ours.
    let first = std::iter::repeat_with(|| consumer.poll(PATIENCE)).find_map(|polled| polled);
    first.unwrap().unwrap();
    let (mut count, start) = (1, Instant::now());
    while count < MESSAGES {
        if let Some(message) = consumer.poll(PATIENCE) {
            message.unwrap();
            count += 1;
            if count % BATCH == 0 {
                consumer.commit_consumer_state(CommitMode::Async).unwrap();
            }
        }
    }
    rate(start)
}

async fn raw<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::main]
async fn main() {
    let given = std::env::args().nth(1);
    let server = match &given {
        Some(_) => None,
        None => Some(servers::own(Kind::Kafka, Options::default().with_full_speed()).await.unwrap()),
    };
    let own = || server.as_ref().map(|server| server.endpoint().address.clone());
    let address = given.clone().or_else(own).unwrap();
    println!("messages a second, {MESSAGES} of {} bytes on average", FLIGHTS.len() / FLIGHTS.lines().count());
    beside_raw(&address).await;
    for compression in ["none", "lz4", "zstd"] {
        let broker = broker(&address, &[("compression.type", compression)]).await;
        let mut best = 0f64;
        for _ in 0..3 {
            best = best.max(publish(&broker, &topic(&broker).await).await);
        }
        println!("publish with compression {compression:<5} {best:>9.0}");
    }
    for linger in ["0", "0.5", "1", "5"] {
        let broker = broker(&address, &[("linger.ms", linger)]).await;
        let destination = topic(&broker).await;
        let publisher = broker.publisher(&destination).await.unwrap();
        let mut took: Vec<Duration> = Vec::new();
        for message in messages().into_iter().take(300) {
            let start = Instant::now();
            publisher.publish(vec![message]).await.pop().unwrap().unwrap();
            took.push(start.elapsed());
        }
        took.sort();
        let rate = publish(&broker, &destination).await;
        println!(
            "linger {linger:<4} one publish at a time: median {:?}; many: {rate:>9.0}",
            took[took.len() / 2]
        );
    }
}

async fn beside_raw(address: &str) {
    let broker = broker(address, &[]).await;
    let mut best = [0f64; 4];
    let headers = header_like_ours();
    for _ in 0..3 {
        let (theirs, ours) = (topic(&broker).await, topic(&broker).await);
        let (place, name, like) = (address.to_owned(), theirs.name.to_string(), headers.clone());
        best[0] = best[0].max(raw(move || raw_publish(&place, &name, &like)).await);
        best[1] = best[1].max(publish(&broker, &ours).await);
        let (place, name) = (address.to_owned(), ours.name.to_string());
        best[2] = best[2].max(raw(move || raw_consume(&place, &name)).await);
        best[3] = best[3].max(consume(&broker, &ours).await);
    }
    let [raw_publish, publish, raw_consume, consume] = best;
    println!("publish  raw {raw_publish:>9.0}  ours {publish:>9.0}  {:.2}", publish / raw_publish);
    println!("consume  raw {raw_consume:>9.0}  ours {consume:>9.0}  {:.2}", consume / raw_consume);
}

/// As many headers of the same sizes, so that both send the same.
fn header_like_ours() -> OwnedHeaders {
    let values = [3, 36, 12, 18, 27, 16, 6];
    values.iter().enumerate().fold(OwnedHeaders::new(), |headers, (n, length)| {
        let (name, value) = (format!("ce_header_{n}"), "x".repeat(*length));
        headers.insert(rdkafka::message::Header { key: &name, value: Some(value.as_str()) })
    })
}
