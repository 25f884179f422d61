//! The server's own HTTP interface and Python's pika read what Ductape wrote, and Ductape what they wrote.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::message::SessionRef;
use ductape_core::{Broker, Consumer, ConsumerOptions, Delivery, Destination, Message};
use ductape_testkit::servers::{Endpoint, Server};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::{acks, connect, message, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(20);
/// Names the Python to run, where it is not the `python3` of the path.
const PYTHON: &str = "DUCTAPE_TEST_PYTHON";

/// A destination on the shared server, with what others write and read it by.
struct Rig {
    server: Arc<Server>,
    broker: Arc<dyn Broker>,
    destination: Destination,
    consumer: Option<Arc<dyn Consumer>>,
}

impl Rig {
    /// Nothing where the test is skipped, which is said.
    async fn new(test: &str) -> Option<Rig> {
        let server = support::shared(test).await?;
        let broker = connect(&support::config(server.endpoint()), PATIENCE).await.unwrap();
        let destination = support::destination("interop");
        broker.ensure(&destination).await.unwrap();
        Some(Rig { server, broker, destination, consumer: None })
    }

    fn endpoint(&self) -> &Endpoint {
        self.server.endpoint()
    }

    fn queue(&self) -> String {
        format!("{}.readers", self.destination.name)
    }

    async fn publish(&self, message: Message) {
        let publisher = self.broker.publisher(&self.destination).await.unwrap();
        publisher.publish(vec![message]).await.pop().unwrap().unwrap();
    }

    async fn take_one(&mut self) -> Delivery {
        if self.consumer.is_none() {
            let options = ConsumerOptions::new("readers");
            self.consumer = Some(self.broker.consumer(&self.destination, &options).await.unwrap());
        }
        let consumer = self.consumer.as_ref().unwrap();
        let delivery = consumer.receive(1, PATIENCE).await.unwrap().pop().expect("a delivery");
        consumer.settle(acks(std::slice::from_ref(&delivery))).await.pop().unwrap().unwrap();
        delivery
    }
}

fn ours() -> Message {
    let mut ours = message(r#"{"total":99.99}"#);
    ours.key = Some("customer-1".into());
    ours.headers = [("source-ip", "192.0.2.7")].into_iter().collect();
    ours.extensions_mut().session = Some(SessionRef { tag: "user".into(), subject: "42".into() });
    ours
}

/// What headers of [`ours`] everybody sees, by CloudEvents' AMQP binding.
fn assert_ours(headers: &Value, id: &str) {
    for (name, value) in [
        ("cloudEvents:specversion", "1.0"),
        ("cloudEvents:id", id),
        ("cloudEvents:type", "orders:new"),
        ("cloudEvents:source", "/shop"),
        ("cloudEvents:partitionkey", "customer-1"),
        ("source-ip", "192.0.2.7"),
    ] {
        assert_eq!(headers[name], value, "{name}: {headers}");
    }
    // The binding has the content type as the property of that name only.
    assert!(headers.get("cloudEvents:datacontenttype").is_none(), "{headers}");
}

fn header(delivery: &Delivery, name: &str) -> String {
    let value = delivery.message.headers.get(name).unwrap_or_else(|| panic!("{name}: {delivery:?}"));
    String::from_utf8(value.as_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn the_servers_http_interface_and_ductape_read_what_the_other_wrote() {
    let test = "the server's HTTP interface and ductape read what the other wrote";
    let Some(mut rig) = Rig::new(test).await else { return };
    if rig.endpoint().management.is_none() {
        let mut out = std::io::stdout();
        return writeln!(out, "\nskip {test} (DUCTAPE_TEST_RABBITMQ_MANAGEMENT is not set)").unwrap();
    }
    let (ours, get) = (ours(), json!({"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}));
    let id = ours.id.to_string();
    rig.publish(ours).await;
    let read = post(rig.endpoint(), &format!("/api/queues/%2F/{}/get", rig.queue()), &get).await;
    let read = &read[0];
    assert_eq!(
        (&read["payload"], &read["payload_encoding"]),
        (&r#"{"total":99.99}"#.into(), &"string".into())
    );
    let properties = &read["properties"];
    assert_eq!(properties["content_type"], "text/plain");
    assert_eq!((&properties["message_id"], &properties["delivery_mode"]), (&id.as_str().into(), &2.into()));
    assert_ours(&properties["headers"], &id);

    let theirs = json!({
        "routing_key": rig.destination.name, "payload": "h\u{e9}llo", "payload_encoding": "string",
        "properties": { "message_id": "m-1", "content_type": "text/x", "headers": { "shop": "north", "count": 7 } },
    });
    let routed = post(rig.endpoint(), "/api/exchanges/%2F/ductape/publish", &theirs).await;
    assert_eq!(routed, json!({ "routed": true }));
    let delivery = rig.take_one().await;
    assert_eq!((text(&delivery), delivery.message.id.to_string()), ("h\u{e9}llo".into(), "m-1".into()));
    assert_eq!((header(&delivery, "shop"), header(&delivery, "count")), ("north".into(), "7".into()));
    assert_eq!((delivery.message.content_type(), delivery.attempt), ("text/x", 1));
}

/// One request to the management's HTTP interface, and the JSON that it answers.
async fn post(endpoint: &Endpoint, path: &str, body: &Value) -> Value {
    let address = endpoint.management.as_deref().unwrap();
    let (user, password) = credentials(endpoint);
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Basic {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        base64(format!("{user}:{password}").as_bytes()),
        body.len(),
    );
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.lines().next().is_some_and(|status| status.contains(" 200 ")), "{answer}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn credentials(endpoint: &Endpoint) -> (&str, &str) {
    let password = endpoint.password.as_ref().map_or("guest", |password| password.expose());
    (endpoint.username.as_deref().unwrap_or("guest"), password)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            (0..3).fold(0_usize, |bits, n| bits << 8 | usize::from(three.get(n).copied().unwrap_or(0)));
        for n in 0..4 {
            let letter = char::from(LETTERS[bits >> (18 - 6 * n) & 63]);
            text.push(if n <= three.len() { letter } else { '=' });
        }
    }
    text
}

#[tokio::test]
async fn pika_and_ductape_read_what_the_other_wrote() {
    let test = "pika and ductape read what the other wrote";
    if !python().args(["-c", "import pika"]).stderr(Stdio::null()).status().is_ok_and(|done| done.success()) {
        let why =
            format!("pika is not installed; get it with `pip install pika`, or name a Python by {PYTHON}");
        return writeln!(std::io::stdout().lock(), "\nskip {test} ({why})").unwrap();
    }
    let Some(mut rig) = Rig::new(test).await else { return };
    let ours = ours();
    let id = ours.id.to_string();
    rig.publish(ours).await;
    let read = pika(
        &rig,
        "method, properties, body = channel.basic_get(queue, auto_ack=True)\n\
         print(json.dumps({'body': body.decode(), 'headers': properties.headers, 'id': properties.message_id,\n\
             'type': properties.content_type, 'mode': properties.delivery_mode}))\n",
    );
    assert_eq!((&read["body"], &read["id"]), (&r#"{"total":99.99}"#.into(), &id.as_str().into()));
    assert_eq!((&read["type"], &read["mode"]), (&"text/plain".into(), &2.into()));
    assert_ours(&read["headers"], &id);
    pika(
        &rig,
        "channel.confirm_delivery()\n\
         headers = {'shop': 'north', 'count': 7, 'raw': b'\\x01', 'yes': True, 'cloudEvents:partitionkey': 'k'}\n\
         properties = pika.BasicProperties(headers=headers, content_type='text/x')\n\
         channel.basic_publish('ductape', key, 'h\u{e9}llo'.encode(), properties, mandatory=True)\n\
         print('null')\n",
    );
    let delivery = rig.take_one().await;
    assert_eq!((text(&delivery), delivery.message.content_type()), ("h\u{e9}llo".into(), "text/x"));
    assert_eq!((header(&delivery, "shop"), header(&delivery, "count")), ("north".into(), "7".into()));
    assert_eq!((header(&delivery, "raw"), header(&delivery, "yes")), ("\u{1}".into(), "true".into()));
}

fn python() -> Command {
    Command::new(std::env::var(PYTHON).unwrap_or_else(|_| "python3".into()))
}

/// Runs Python with a `channel`, the `queue` and its routing `key`, and returns the JSON that it prints.
fn pika(rig: &Rig, program: &str) -> Value {
    let endpoint = rig.endpoint();
    let (user, password) = credentials(endpoint);
    let program = format!(
        "import json, os, pika\n\
         user = pika.PlainCredentials('{user}', os.environ['PASSWORD'])\n\
         to = pika.ConnectionParameters('{}', {}, '/', user)\n\
         channel = pika.BlockingConnection(to).channel()\n\
         queue, key = '{}', '{}'\n{program}",
        endpoint.host(),
        endpoint.port(),
        rig.queue(),
        rig.destination.name,
    );
    let done = python().args(["-c", &program]).env("PASSWORD", password).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}
