//! `kcat` reads what Ductape wrote, and Ductape what `kcat` wrote; and a key lies where the Java client has it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::{Broker, ConnectOptions, Consumer, ConsumerOptions, Destination, Message, Position};
use ductape_testkit::servers::{self, Kind, Server};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use support::{Auth, connect, keyed, message, take};

struct Rig {
    server: Arc<Server>,
    broker: Arc<dyn Broker>,
    destination: Destination,
}

/// The shared server, a connection and a topic on it; nothing where the test is skipped, which is said.
async fn rig(test: &str) -> Option<Rig> {
    let server = match servers::shared(Kind::Kafka).await {
        Ok(server) => server,
        Err(why) => {
            why.skip(test);
            return None;
        }
    };
    if Command::new("kcat").arg("-V").output().is_err() {
        // Past the harness, which keeps what a test prints.
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "\nskip {test} (kcat is not installed: `apt-get install kcat`)").unwrap();
        return None;
    }
    let broker = connect(support::config(Auth::NONE, server.endpoint()), ConnectOptions::default()).await;
    let destination = Destination::new(format!("interop-{:016x}", fastrand::u64(..)), "readers");
    broker.ensure(&destination).await.unwrap();
    Some(Rig { server, broker, destination })
}

impl Rig {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Position> {
        let publisher = self.broker.publisher(&self.destination).await.unwrap();
        publisher.publish(messages).await.into_iter().map(Result::unwrap).collect()
    }

    async fn consumer(&self) -> Arc<dyn Consumer> {
        self.broker.consumer(&self.destination, &ConsumerOptions::new("readers")).await.unwrap()
    }

    fn kcat(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kcat");
        command.args(["-b", &self.server.endpoint().address, "-t", &self.destination.name]);
        command.args(arguments);
        command
    }

    /// What kcat reads: a JSON object a record.
    fn read(&self) -> Vec<Value> {
        let output = self.kcat(&["-C", "-e", "-q", "-J"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Lets kcat write what it reads from its input.
    fn write(&self, arguments: &[&str], input: &str) {
        let mut kcat = self.kcat(&[&["-P"], arguments].concat()).stdin(Stdio::piped()).spawn().unwrap();
        kcat.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(kcat.wait().unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kcat_reads_the_plain_payload_the_key_and_the_headers_of_the_binding() {
    let Some(rig) = rig("kcat reads the plain payload, the key and the headers of the binding").await else {
        return;
    };
    let mut published = keyed("customer-789", r#"{"orderId":"12345"}"#);
    published.headers = [("source-ip", "192.0.2.7"), ("id", "the user's own")].into_iter().collect();
    rig.publish(vec![published.clone()]).await;
    let record = rig.read().remove(0);
    assert_eq!(record["payload"], r#"{"orderId":"12345"}"#);
    assert_eq!(record["key"], "customer-789");
    let (id, time) = (published.id.to_string(), published.time.to_string());
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", &id),
        ("ce_source", "/shop"),
        ("ce_type", "order-events:new-orders"),
        ("ce_time", &time),
        ("content-type", "application/json"),
        ("ce_partitionkey", "customer-789"),
        ("source-ip", "192.0.2.7"),
        ("id", "the user's own"),
    ];
    let flat: Vec<&str> =
        record["headers"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let headers: Vec<_> = flat.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    assert_eq!(headers, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kcat_writes_is_delivered_also_without_key_headers_and_value() {
    let Some(rig) = rig("what kcat writes is delivered, also without key, headers and value").await else {
        return;
    };
    let consumer = rig.consumer().await;
    rig.write(&["-K:", "-H", "origin=kcat", "-H", "origin=twice"], "key-1:{\"a\":1}\n");
    let delivery = take(&consumer, 1).await.remove(0);
    assert_eq!(&delivery.message.payload[..], b"{\"a\":1}");
    assert_eq!(delivery.message.key.as_ref().unwrap().as_str(), Some("key-1"));
    let headers: Vec<_> = delivery.message.headers.iter().map(|(n, v)| (n, v.as_str().unwrap())).collect();
    assert_eq!(headers, [("origin", "kcat"), ("origin", "twice")]);
    assert_eq!(delivery.message.id.to_string(), format!("{}/{}", rig.destination.name, delivery.position));
    // Its -Z makes a null of what is empty: a record without a key, and a tombstone.
    rig.write(&["-Z", "-K:"], ":no key\nkey-2:\n");
    let mut texts: Vec<_> = take(&consumer, 2)
        .await
        .into_iter()
        .map(|d| {
            (d.message.key.map(|key| key.to_string()), String::from_utf8(d.message.payload.to_vec()).unwrap())
        })
        .collect();
    texts.sort();
    assert_eq!(texts, [(None, "no key".to_owned()), (Some("key-2".to_owned()), String::new())]);
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_lies_where_murmur2_of_another_client_puts_it() {
    let Some(rig) = rig("a key lies where murmur2 of another client puts it").await else { return };
    let keys: Vec<String> = (0..200).map(|n| format!("N{n}\u{e9}{}", "x".repeat(n % 9))).collect();
    let ours = rig.publish(keys.iter().map(|key| keyed(key, "ours")).collect()).await;
    let lines: String = keys.iter().map(|key| format!("{key}:theirs\n")).collect();
    rig.write(&["-K:", "-X", "partitioner=murmur2_random"], &lines);
    let theirs: BTreeMap<String, u64> = rig
        .read()
        .iter()
        .filter(|record| record["payload"] == "theirs")
        .map(|record| (record["key"].as_str().unwrap().to_owned(), record["partition"].as_u64().unwrap()))
        .collect();
    assert_eq!(theirs.len(), keys.len());
    for (key, position) in keys.iter().zip(ours) {
        let Position::Partition { partition, .. } = position else { panic!("{position}") };
        assert_eq!(theirs[key], u64::from(partition), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_without_a_key_go_to_every_partition() {
    let Some(rig) = rig("messages without a key go to every partition").await else { return };
    let positions = rig.publish((0..40).map(|_| message("x")).collect()).await;
    let mut counts = BTreeMap::new();
    for position in positions {
        let Position::Partition { partition, .. } = position else { panic!("{position}") };
        *counts.entry(partition).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [10; 4]);
}
