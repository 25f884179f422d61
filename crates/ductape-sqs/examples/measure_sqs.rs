//! How fast the provider is beside the SDK used by hand, alternating in one run on a server of its own:
//! `cargo run --release -p ductape-sqs --example measure_sqs`.
//!
//! By hand means what is fastest and honest: full batches of ten, sixteen requests at once, every entry's result looked at,
//! every message deleted. The messages are the same on both sides, with the same attributes.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement prints, and ends at a fault")]

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, MessageAttributeValue, SendMessageBatchRequestEntry,
};
use ductape_core::config::SqsConfig;
use ductape_core::message::{Attributes, IdSource};
use ductape_core::secret::Secret;
use ductape_core::{
    Broker, Clock, ConnectOptions, ConsumerOptions, Destination, Message, Provider, ProviderConfig,
    Settlement, Verdict, wire,
};
use ductape_sqs::SqsProvider;
use ductape_testkit::servers::{self, Kind, Options};
use futures_util::stream::{self, StreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const MESSAGES: usize = 10_000;
const ROUNDS: usize = 7;
const AT_ONCE: usize = 16;
const BYTES: usize = 256;

#[tokio::main]
async fn main() {
    let server = servers::own(Kind::Sqs, Options::default().with_full_speed()).await.unwrap();
    let endpoint = format!("http://{}", server.endpoint().address);
    let broker = ours(&endpoint).await;
    let client = by_hand(&endpoint);
    let mut rates: [Vec<f64>; 4] = Default::default();
    // The first round warms the server up and is not counted.
    for round in 0..=ROUNDS {
        let one = [publish_ours(&broker, round).await, publish_by_hand(&client, round).await];
        let two = [consume_ours(&broker, round).await, consume_by_hand(&client, round).await];
        for (rates, took) in rates.iter_mut().zip(one.into_iter().chain(two)).filter(|_| round > 0) {
            rates.push(MESSAGES as f64 / took.as_secs_f64());
        }
    }
    let [publish, publish_hand, consume, consume_hand] = rates.map(median);
    println!(
        "publish  ours {publish:.0}/s  by hand {publish_hand:.0}/s  ratio {:.2}",
        publish / publish_hand
    );
    println!(
        "consume  ours {consume:.0}/s  by hand {consume_hand:.0}/s  ratio {:.2}",
        consume / consume_hand
    );
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

async fn ours(endpoint: &str) -> Arc<dyn Broker> {
    let config = SqsConfig {
        region: "us-east-1".into(),
        access_key_id: Some("test".into()),
        secret_access_key: Some(Secret::from("test")),
        endpoint: Some(endpoint.into()),
        ..SqsConfig::default()
    };
    SqsProvider.connect(&ProviderConfig::AwsSqs(config), &ConnectOptions::default()).await.unwrap()
}

fn by_hand(endpoint: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "measure"))
        .endpoint_url(endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

fn messages() -> Vec<Message> {
    let attributes =
        Attributes { source: "/shop".into(), event: "orders:new".into(), content_type: "text/plain".into() };
    let (attributes, time, mut ids) = (Arc::new(attributes), Clock::system().now(), IdSource::new());
    let message = |_| Message::new("x".repeat(BYTES), ids.next(time), time, Arc::clone(&attributes));
    (0..MESSAGES).map(message).collect()
}

fn destination(side: &str, round: usize) -> Destination {
    Destination::new(format!("{side}-{round}"), "readers")
}

async fn publish_ours(broker: &Arc<dyn Broker>, round: usize) -> Duration {
    let destination = destination("ours", round);
    broker.ensure(&destination).await.unwrap();
    let publisher = broker.publisher(&destination).await.unwrap();
    let messages = messages();
    let start = Instant::now();
    for result in publisher.publish(messages).await {
        result.unwrap();
    }
    start.elapsed()
}

async fn publish_by_hand(client: &Client, round: usize) -> Duration {
    let url =
        client.create_queue().queue_name(format!("hand-{round}")).send().await.unwrap().queue_url.unwrap();
    let messages = messages();
    let start = Instant::now();
    let batches: Vec<Vec<Message>> = messages.chunks(10).map(<[_]>::to_vec).collect();
    let sends = stream::iter(batches).map(|batch| {
        let (client, url) = (client.clone(), url.clone());
        tokio::spawn(async move {
            let entries = batch.iter().enumerate().map(|(id, message)| entry(id, message)).collect();
            let sent =
                client.send_message_batch().queue_url(url).set_entries(Some(entries)).send().await.unwrap();
            assert!(sent.failed.is_empty() && sent.successful.len() == batch.len());
        })
    });
    sends.buffer_unordered(AT_ONCE).for_each(|sent| async { sent.unwrap() }).await;
    start.elapsed()
}

fn entry(id: usize, message: &Message) -> SendMessageBatchRequestEntry {
    let body = String::from_utf8(message.payload.to_vec()).unwrap();
    let mut entry = SendMessageBatchRequestEntry::builder().id(id.to_string()).message_body(body);
    let mut attributes = std::collections::HashMap::new();
    wire::write(message, "", |name, value| {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value).build().unwrap();
        attributes.insert(name.to_owned(), value);
    });
    entry = entry.set_message_attributes(Some(attributes));
    entry.build().unwrap()
}

async fn consume_ours(broker: &Arc<dyn Broker>, round: usize) -> Duration {
    let options = ConsumerOptions { max_in_flight: AT_ONCE * 10 * 2, ..ConsumerOptions::new("readers") };
    let consumer = broker.consumer(&destination("ours", round), &options).await.unwrap();
    let (start, mut received, mut settling) = (Instant::now(), 0, tokio::task::JoinSet::new());
    while received < MESSAGES {
        let deliveries = consumer.receive(options.max_in_flight, Duration::from_secs(20)).await.unwrap();
        received += deliveries.len();
        let ack =
            |delivery: ductape_core::Delivery| Settlement { token: delivery.token, verdict: Verdict::Ack };
        let (batch, consumer) = (deliveries.into_iter().map(ack).collect(), Arc::clone(&consumer));
        settling
            .spawn(async move { consumer.settle(batch).await.into_iter().for_each(|done| done.unwrap()) });
    }
    while let Some(settled) = settling.join_next().await {
        settled.unwrap();
    }
    let took = start.elapsed();
    consumer.close().await.unwrap();
    took
}

async fn consume_by_hand(client: &Client, round: usize) -> Duration {
    let url =
        client.get_queue_url().queue_name(format!("hand-{round}")).send().await.unwrap().queue_url.unwrap();
    let (start, left) = (Instant::now(), Arc::new(AtomicUsize::new(MESSAGES)));
    let workers = (0..AT_ONCE).map(|_| {
        let (client, url, left) = (client.clone(), url.clone(), Arc::clone(&left));
        tokio::spawn(async move {
            while left.load(Ordering::Acquire) > 0 {
                let receive = client.receive_message().queue_url(&url).max_number_of_messages(10);
                let receive = receive.message_attribute_names("All").wait_time_seconds(0);
                let messages = receive.send().await.unwrap().messages.unwrap_or_default();
                if messages.is_empty() {
                    continue;
                }
                let entry = |(id, message): (usize, &aws_sdk_sqs::types::Message)| {
                    let entry = DeleteMessageBatchRequestEntry::builder().id(id.to_string());
                    entry.receipt_handle(message.receipt_handle().unwrap()).build().unwrap()
                };
                let entries = messages.iter().enumerate().map(entry).collect();
                let deleted =
                    client.delete_message_batch().queue_url(&url).set_entries(Some(entries)).send().await;
                left.fetch_sub(deleted.unwrap().successful.len(), Ordering::AcqRel);
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    start.elapsed()
}
