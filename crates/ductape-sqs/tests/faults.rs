//! Servers that die, networks that break, consumers that are killed: what was taken is delivered, in its order.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failure here is the test's; a child tells its parent"
)]

mod support;

use ductape_core::{Destination, ErrorKind};
use ductape_testkit::servers::{self, Kind, Options, Proxy, Server};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{SOON, Topic, ack, connect, message, take, text, try_connect};
use tokio::io::{AsyncBufReadExt, BufReader};

const LEASE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(3);

async fn server(sentence: &str, options: Options) -> Option<Server> {
    match servers::own(Kind::Sqs, options).await {
        Ok(server) => Some(server),
        Err(why) => {
            why.skip(sentence);
            None
        }
    }
}

const KEYS: usize = 5;

/// Publishes `count` numbered messages of a few keys, one of each key at a time; the texts of those that were taken.
async fn publish(topic: &Topic, word: &str, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    for lot in (0..count).collect::<Vec<_>>().chunks(KEYS) {
        let texts: Vec<String> = lot.iter().map(|n| format!("{word}-{}-{n:04}", n % KEYS)).collect();
        let key = |text: &String| text.split('-').nth(1).map(str::to_owned);
        let batch = texts.iter().map(|text| message(key(text).as_deref(), text.clone())).collect();
        let results = topic.publisher.publish(batch).await;
        taken.extend(texts.into_iter().zip(results).filter_map(|(text, result)| result.ok().map(|_| text)));
    }
    taken
}

/// Of each key the texts in the order in which they came.
fn assert_ordered(texts: &[String]) {
    let mut keys: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for text in texts {
        keys.entry(text.split('-').nth(1).unwrap()).or_default().push(text);
    }
    for (key, texts) in keys {
        let mut sorted = texts.clone();
        sorted.sort_by_key(|text| text.rsplit('-').next().map(str::to_owned));
        assert_eq!(texts, sorted, "the order of the key {key}");
    }
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_networks_lose_nothing_and_double_nothing_on_a_fifo_queue() {
    let Some(server) = server("broken networks", Options::default()).await else { return };
    let proxy = Proxy::start(&server.endpoint().address).unwrap();
    let broker = try_connect(proxy.address(), LIMIT).await.unwrap();
    let standard = Topic::open(broker.clone(), "faults").await;
    let fifo = Topic::open(broker, "faults.fifo").await;
    lost_answers(&proxy, &standard, &fifo).await;
    cut_and_stalled_receives(&proxy, &standard).await;
}

/// The server takes what it is sent, and the answer never comes.
async fn lost_answers(proxy: &Proxy, standard: &Topic, fifo: &Topic) {
    proxy.drop_answers();
    let lost = standard.publisher.publish(vec![message(None, "sent")]).await.pop().unwrap().unwrap_err();
    assert!(lost.is_uncertain(), "{lost}");
    let before = proxy.bytes_up();
    let resent = fifo.publisher.publish(vec![message(Some("k"), "once")]);
    let heal = async {
        forwarded(proxy, before).await;
        // Its first answer is lost for good.
        proxy.resume();
    };
    let (resent, ()) = futures_util::future::join(resent, heal).await;
    resent.into_iter().for_each(|result| drop(result.unwrap()));
    assert_eq!(take(&standard.consumer(LEASE).await, 1).await, ["sent"]);
    let consumer = fifo.consumer(LEASE).await;
    let got = consumer.receive(10, SOON).await.unwrap();
    assert_eq!(got.iter().map(text).collect::<Vec<_>>(), ["once"]);
    consumer.settle(vec![ack(&got[0])]).await.into_iter().for_each(|result| result.unwrap());
    assert!(consumer.receive(10, Duration::from_secs(2)).await.unwrap().is_empty(), "it is there once");
}

/// Waits until the server was sent more than this.
async fn forwarded(proxy: &Proxy, before: u64) {
    let start = Instant::now();
    while proxy.bytes_up() <= before {
        assert!(start.elapsed() < SOON, "nothing was sent");
        // tidy: sleeps because the condition is looked at anew after it.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn cut_and_stalled_receives(proxy: &Proxy, topic: &Topic) {
    let consumer = topic.consumer(LEASE).await;
    for round in 0..2 {
        let before = proxy.bytes_up();
        let receive = consumer.receive(10, SOON);
        let broken = async {
            // The receive waits at the server by then.
            forwarded(proxy, before).await;
            if round == 0 {
                proxy.cut()
            } else {
                proxy.stall()
            }
            proxy.resume();
            publish_after_a_cut(topic, &format!("after-{round}")).await;
        };
        let (received, ()) = futures_util::future::join(receive, broken).await;
        match received {
            Ok(deliveries) => {
                assert_eq!(deliveries.iter().map(text).collect::<Vec<_>>(), [format!("after-{round}")]);
                consumer.settle(deliveries.iter().map(ack).collect()).await;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectFailed, "not a lost consumer: {error}");
                assert!(error.is_retryable());
                assert_eq!(take(&consumer, 1).await, [format!("after-{round}")]);
            }
        }
    }
}

/// A connection that was cut may be found so only by the next request on it, of which nothing reached the server.
async fn publish_after_a_cut(topic: &Topic, text: &str) {
    let start = Instant::now();
    while let Some(Err(error)) = topic.publisher.publish(vec![message(None, text)]).await.pop() {
        assert!(error.kind() == ErrorKind::ConnectionLost && start.elapsed() < SOON, "{error}");
    }
}

/// Its order is not looked at: ElasticMQ reads its queues back from its file in another.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_twice_keeps_what_it_took() {
    let Some(server) = server("a server killed twice", Options::default()).await else { return };
    let broker = try_connect(&server.endpoint().address, LIMIT).await.unwrap();
    let topic = Topic::open(broker, "killed.fifo").await;
    let mut taken = publish(&topic, "a", 60).await;
    for word in ["b", "c"] {
        let (during, ()) = futures_util::future::join(publish(&topic, word, 200), async {
            // Polled behind the publish, whose requests are on their way by then.
            server.kill().await.unwrap();
            server.restart().await.unwrap();
        })
        .await;
        taken.extend(during);
        let after = publish(&topic, &format!("{word}{word}"), 20).await;
        assert_eq!(after.len(), 20, "it works again by itself");
        taken.extend(after);
    }
    let consumer = topic.consumer(Duration::from_secs(30)).await;
    let (start, mut got) = (Instant::now(), Vec::new());
    while !taken.iter().all(|text| got.contains(text)) {
        assert!(start.elapsed() < SOON, "{} of {} came", got.len(), taken.len());
        got.extend(take(&consumer, 1).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_empty_is_told_with_what_to_do() {
    let options = Options::default()
        .with_setting("messages-storage.enabled", "false")
        .with_setting("queues-storage.enabled", "false");
    let Some(server) = server("a server that restarts empty", options).await else { return };
    let topic = Topic::open(connect(&server.endpoint().address).await, "gone").await;
    let consumer = topic.consumer(LEASE).await;
    topic.publish(vec![message(None, "before")]).await;
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    let refused = topic.publisher.publish(vec![message(None, "after")]).await.pop().unwrap().unwrap_err();
    let received = consumer.receive(1, Duration::from_secs(1)).await.unwrap_err();
    for error in [refused, received] {
        assert_eq!(error.kind(), ErrorKind::DestinationNotFound, "{error}");
        assert_eq!(error.context("destination"), Some("gone"));
        assert!(error.help().is_some_and(|help| help.contains("the queue is gone")), "{error}");
    }
    // What a worker does then: it makes the queue anew and goes on.
    topic.broker.ensure(&topic.destination).await.unwrap();
    topic.publish(vec![message(None, "anew")]).await;
    assert_eq!(take(&topic.consumer(LEASE).await, 1).await, ["anew"]);
}

const CHILD: &str = "DUCTAPE_SQS_FAULTS_CHILD";
const SHARED: usize = 150;

/// What the killed process runs: nothing unless its parent asks.
#[tokio::test]
async fn child_consumes() {
    let Ok(address) = std::env::var(CHILD) else { return };
    let broker = connect(&address).await;
    let destination = Destination::new("shared.fifo", "readers");
    let options =
        ductape_core::ConsumerOptions { lease: LEASE, ..ductape_core::ConsumerOptions::new("readers") };
    let consumer = broker.consumer(&destination, &options).await.unwrap();
    loop {
        for delivery in consumer.receive(10, SOON).await.unwrap() {
            // Said before it is settled: what is handled may come again, and nothing may be missed.
            println!("had {}", text(&delivery));
            consumer.settle(vec![ack(&delivery)]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_killed_loses_nothing_and_keys_keep_their_order() {
    let Some(server) = server("a consumer that is killed", Options::default()).await else { return };
    let address = server.endpoint().address.clone();
    let topic = Topic::open(connect(&address).await, "shared.fifo").await;
    let taken = publish(&topic, "m", SHARED).await;
    assert_eq!(taken.len(), SHARED);
    let mut had = Vec::new();
    for killed_after in [20, 30] {
        had.extend(child(&address, killed_after).await);
    }
    let left = SHARED - had.iter().collect::<std::collections::BTreeSet<_>>().len();
    let consumer = topic.consumer(Duration::from_secs(30)).await;
    // What the last child had in hand and did not settle comes again with the rest.
    let rest = take(&consumer, left).await;
    had.extend(rest);
    had.extend(take_what_is_left(&consumer).await);
    let mut first: Vec<String> = Vec::new();
    for text in had {
        if !first.contains(&text) {
            first.push(text);
        }
    }
    assert_ordered(&first);
    assert_eq!(sorted(first), sorted(taken));
}

async fn take_what_is_left(consumer: &std::sync::Arc<dyn ductape_core::Consumer>) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let more = consumer.receive(10, LEASE * 2).await.unwrap();
        if more.is_empty() {
            return texts;
        }
        texts.extend(more.iter().map(text));
        consumer.settle(more.iter().map(ack).collect()).await;
    }
}

/// Runs this program as a consumer, and kills it in the middle of its work; what it had.
async fn child(address: &str, after: usize) -> Vec<String> {
    let program = std::env::current_exe().unwrap();
    let mut child = tokio::process::Command::from(Command::new(program))
        .args(["child_consumes", "--exact", "--nocapture"])
        .env(CHILD, address)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut had = Vec::new();
    while let Some(line) = tokio::time::timeout(SOON, lines.next_line()).await.unwrap().unwrap() {
        had.extend(line.split_once("had ").map(|(_, text)| text.to_owned()));
        if had.len() == after {
            // SIGKILL.
            child.start_kill().unwrap();
        }
    }
    child.wait().await.unwrap();
    had
}
