//! `redis-cli` reads what Ductape wrote, and Ductape what `redis-cli` wrote.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::config::{ProviderConfig, RedisConfig, RedisMode};
use ductape_core::message::{Attributes, IdSource, JSON};
use ductape_core::{
    Broker, Clock, ConnectOptions, Consumer, ConsumerOptions, Delivery, Destination, Message, Provider,
};
use ductape_redis::RedisProvider;
use ductape_testkit::servers::{self, Endpoint, Kind, Server};
use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// The shared server and a broker on it; nothing where the test is skipped, which is said.
async fn rig(test: &str, mode: RedisMode) -> Option<(Arc<Server>, Arc<dyn Broker>)> {
    let server = match servers::shared(Kind::Redis).await {
        Ok(server) => server,
        Err(why) => {
            why.skip(test);
            return None;
        }
    };
    if Command::new("redis-cli").arg("--version").output().is_err() {
        writeln!(
            std::io::stdout().lock(),
            "\nskip {test} (redis-cli is not installed; it comes with redis-tools)"
        )
        .unwrap();
        return None;
    }
    let config = RedisConfig { mode, ..support::config(server.endpoint()) };
    let options = ConnectOptions::default();
    let broker = RedisProvider.connect(&ProviderConfig::Redis(config), &options).await.unwrap();
    Some((server, broker))
}

/// What redis-cli prints: a value a line.
fn cli(endpoint: &Endpoint, arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new("redis-cli");
    command.args(["-h", endpoint.host(), "-p", &endpoint.port().to_string()]);
    if let Some(password) = &endpoint.password {
        command.env("REDISCLI_AUTH", password.expose());
    }
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn destination() -> Destination {
    Destination::new(format!("interop-{:016x}", fastrand::u64(..)), "readers")
}

fn message() -> Message {
    let now = Clock::system().now();
    let attributes = Attributes {
        source: "/shop".into(),
        event: "order-events:new-orders".into(),
        content_type: JSON.into(),
    };
    let mut message =
        Message::new(r#"{"orderId":"12345"}"#, IdSource::new().next(now), now, Arc::new(attributes));
    message.key = Some("customer-789".into());
    message.headers = [("source-ip", "192.0.2.7"), ("id", "the user's own")].into_iter().collect();
    message
}

async fn take_one(consumer: &Arc<dyn Consumer>) -> Delivery {
    consumer.receive(1, PATIENCE).await.unwrap().pop().expect("a delivery")
}

#[tokio::test]
async fn redis_cli_reads_a_field_an_attribute_and_the_plain_payload() {
    let test = "redis-cli reads a field an attribute and the plain payload";
    let Some((server, broker)) = rig(test, RedisMode::Stream).await else { return };
    let (destination, message) = (destination(), message());
    broker.ensure(&destination).await.unwrap();
    let publisher = broker.publisher(&destination).await.unwrap();
    let position = publisher.publish(vec![message.clone()]).await.pop().unwrap().unwrap();
    let read = cli(server.endpoint(), &["XRANGE", &destination.name, "-", "+"]);
    assert_eq!(read[0], position.to_string());
    let (id, time) = (message.id.to_string(), message.time.to_string());
    let expected = [
        ("specversion", "1.0"),
        ("id", &id),
        ("source", "/shop"),
        ("type", "order-events:new-orders"),
        ("time", &time),
        ("datacontenttype", "application/json"),
        ("partitionkey", "customer-789"),
        ("source-ip", "192.0.2.7"),
        ("header:id", "the user's own"),
        ("payload", r#"{"orderId":"12345"}"#),
    ];
    let pairs: Vec<_> = read[1..].chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    assert_eq!(pairs, expected);
}

#[tokio::test]
async fn what_redis_cli_writes_is_delivered() {
    let Some((server, broker)) = rig("what redis-cli writes is delivered", RedisMode::Stream).await else {
        return;
    };
    let destination = destination();
    broker.ensure(&destination).await.unwrap();
    let consumer = broker.consumer(&destination, &ConsumerOptions::new("readers")).await.unwrap();
    let write = |fields: &[&str]| {
        let command = ["XADD", &destination.name, "*"];
        cli(server.endpoint(), &[&command[..], fields].concat()).remove(0)
    };
    let id = write(&["payload", "{\"a\":1}", "origin", "cli"]);
    let delivery = take_one(&consumer).await;
    assert_eq!(&delivery.message.payload[..], b"{\"a\":1}");
    assert_eq!(delivery.message.headers.get("origin").unwrap().as_str(), Some("cli"));
    assert_eq!(delivery.message.id.to_string(), format!("{}/{id}", destination.name));
    assert_eq!(delivery.position.to_string(), id);
    write(&["temperature", "20"]);
    assert_eq!(&take_one(&consumer).await.message.payload[..], b"20");
    write(&["name", "bob", "age", "7"]);
    let object = take_one(&consumer).await.message;
    assert_eq!((&object.payload[..], object.content_type()), (&br#"{"name":"bob","age":"7"}"#[..], JSON));
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn a_member_that_leaves_is_gone_from_what_redis_cli_lists() {
    let test = "a member that leaves is gone from what redis-cli lists";
    let Some((server, broker)) = rig(test, RedisMode::Stream).await else { return };
    let destination = destination();
    broker.ensure(&destination).await.unwrap();
    let mut options = ConsumerOptions::new("readers");
    options.member = "the-member".into();
    let consumer = broker.consumer(&destination, &options).await.unwrap();
    broker.publisher(&destination).await.unwrap().publish(vec![message()]).await.pop().unwrap().unwrap();
    take_one(&consumer).await;
    let members = || cli(server.endpoint(), &["XINFO", "CONSUMERS", &destination.name, "readers"]);
    assert!(members().contains(&"the-member@30000ms".to_owned()));
    consumer.close().await.unwrap();
    let left = members();
    assert!(
        left.contains(&"ductape-released".to_owned()) && !left.contains(&"the-member@30000ms".to_owned())
    );
}

#[tokio::test]
async fn a_channel_carries_events_in_json_and_whatever_redis_cli_sends() {
    let test = "a channel carries events in json and whatever redis-cli sends";
    let Some((server, broker)) = rig(test, RedisMode::Pubsub).await else { return };
    let destination = destination();
    let consumer = broker.consumer(&destination, &ConsumerOptions::new("readers")).await.unwrap();
    assert_eq!(cli(server.endpoint(), &["PUBLISH", &destination.name, "plain"]), ["1"]);
    assert_eq!(&take_one(&consumer).await.message.payload[..], b"plain");
    let seen = broker.inspect(&destination).await.unwrap();
    assert_eq!(seen.groups[0].members, Some(1));
    consumer.close().await.unwrap();
}
