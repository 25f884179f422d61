//! What is published is handled at least once and in the order of its key, whatever breaks: the server, a consumer, the
//! network.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::config::RabbitMqConfig;
use ductape_core::{ConsumerOptions, Destination, ErrorKind};
use ductape_rabbitmq::RabbitMqProvider;
use ductape_testkit::outage::{self, Traffic};
use ductape_testkit::servers::{self, Kind, Options, Proxy, Server};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{acks, connect, message, take, text};

const FLIGHTS: &str = include_str!("../../ductape/examples/departures/departures.ndjson");
const PATIENCE: Duration = Duration::from_secs(20);
/// Tells a process that it is the consumer to be killed, where its server is, and what it reads.
const CONSUMER: &str = "DUCTAPE_TEST_CONSUMER_OF";

/// A server of the test's own, or the end of the test, said aloud.
macro_rules! server {
    ($test:literal) => {
        match servers::own(Kind::RabbitMq, Options::default()).await {
            Ok(server) => server,
            Err(why) => return why.skip($test),
        }
    };
}

async fn traffic(config: &RabbitMqConfig, limit: Duration) -> Traffic {
    let client = outage::service(RabbitMqProvider, "RABBITMQ", json!(config), limit).await;
    Traffic::new(client, outage::departures(FLIGHTS, 20_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_departures_outlive_a_server_that_is_killed_twice_while_they_are_published() {
    let server = server!("departures outlive a server that is killed while they are published");
    let traffic = traffic(&support::config(server.endpoint()), PATIENCE).await;
    traffic.outlives_kills_while_published(&server).await;
}

/// A queue that the server has not written down yet would come back without a leader.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_departures_of_a_new_queue_outlive_a_server_that_is_killed_at_once() {
    let server = server!("the first departures of a new queue outlive a server that is killed");
    let config = json!(support::config(server.endpoint()));
    let client = outage::service(RabbitMqProvider, "RABBITMQ", config, PATIENCE).await;
    let few = Traffic::new(client, outage::departures(FLIGHTS, 600));
    few.outlives_kills_while_published(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn departures_outlive_a_server_that_is_killed_twice_while_they_are_handled() {
    let server = server!("departures outlive a server that is killed while they are handled");
    let traffic = traffic(&support::config(server.endpoint()), PATIENCE).await;
    traffic.outlives_kills_while_handled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn departures_outlive_a_network_that_is_cut() {
    let server = server!("departures outlive a network that is cut");
    let proxy = Proxy::start(&server.endpoint().address).unwrap();
    traffic(&through(&proxy, &server), PATIENCE).await.outlives_cuts(&proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn departures_outlive_a_network_that_stalls_without_closing() {
    let server = server!("departures outlive a network that stalls");
    let proxy = Proxy::start(&server.endpoint().address).unwrap();
    let limit = Duration::from_secs(2);
    traffic(&through(&proxy, &server), limit).await.outlives_stalls(&proxy, limit * 2).await;
}

fn through(proxy: &Proxy, server: &Server) -> RabbitMqConfig {
    RabbitMqConfig { port: Some(proxy.port()), ..support::config(server.endpoint()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_into_silence_ends_in_its_time_as_uncertain_and_what_was_taken_is_there() {
    let server = server!("a publish into silence ends in its time as uncertain");
    let proxy = Proxy::start(&server.endpoint().address).unwrap();
    let limit = Duration::from_secs(2);
    let broker = connect(&through(&proxy, &server), limit).await.unwrap();
    let destination = support::destination("silence");
    broker.ensure(&destination).await.unwrap();
    let publisher = broker.publisher(&destination).await.unwrap();
    publisher.publish(vec![message("before")]).await.pop().unwrap().unwrap();
    proxy.drop_answers();
    let start = Instant::now();
    let results = publisher.publish((0..100).map(|n| message(format!("{n}"))).collect()).await;
    let took = start.elapsed();
    assert!(took < limit * 3, "{took:?}");
    assert_eq!(results.len(), 100);
    for error in results.into_iter().map(Result::unwrap_err) {
        assert!(error.is_uncertain(), "{error}");
        assert!(error.help().is_some(), "{error}");
    }
    proxy.resume();
    // The server had them all along: uncertain means that they may be there.
    let broker = connect(&support::config(server.endpoint()), PATIENCE).await.unwrap();
    let consumer = broker.consumer(&destination, &ConsumerOptions::new("readers")).await.unwrap();
    assert_eq!(take(&consumer, 101).await.len(), 101);
}

/// Heartbeats find it too, minutes later.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_answer_is_replaced() {
    let server = server!("a connection that does not answer is replaced");
    let proxy = Proxy::start(&server.endpoint().address).unwrap();
    let broker = connect(&through(&proxy, &server), Duration::from_secs(1)).await.unwrap();
    broker.ping().await.unwrap();
    let before = proxy.connections();
    proxy.half_open();
    assert_eq!(broker.ping().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(proxy.connections(), before);
    let connected = async {
        while proxy.connections() == before {
            // tidy: sleeps because the condition is looked at anew after it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = connected => {}
        pinged = broker.ping() => panic!("no new connection: {pinged:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_consumer_had_comes_to_another_with_its_attempt_counted() {
    let server = server!("what a killed consumer had comes to another with its attempt counted");
    let config = support::config(server.endpoint());
    let broker = connect(&config, PATIENCE).await.unwrap();
    let destination = support::destination("killed");
    broker.ensure(&destination).await.unwrap();
    let publisher = broker.publisher(&destination).await.unwrap();
    let batch = (0..3_000).map(|n| message(format!("{n}"))).collect();
    publisher.publish(batch).await.into_iter().for_each(|result| drop(result.unwrap()));
    let name = destination.name.to_string();
    let member = tokio::task::spawn_blocking(move || a_consumer_that_is_killed_had(&config, &name, 1_000));
    let (settled, unsettled) = member.await.unwrap();
    assert!(settled.len() >= 1_000 && !unsettled.is_empty(), "{} and {}", settled.len(), unsettled.len());
    let consumer = broker.consumer(&destination, &ConsumerOptions::new("readers")).await.unwrap();
    let (start, mut attempts) = (Instant::now(), HashMap::new());
    let all = |attempts: &HashMap<String, u32>| {
        (0..3_000).map(|n| n.to_string()).all(|n| settled.contains(&n) || attempts.contains_key(&n))
    };
    while !all(&attempts) {
        assert!(start.elapsed() < PATIENCE, "{} came again", attempts.len());
        let deliveries = consumer.receive(500, Duration::from_secs(1)).await.unwrap();
        attempts.extend(deliveries.iter().map(|delivery| (text(delivery), delivery.attempt)));
        consumer.settle(acks(&deliveries)).await.into_iter().for_each(|result| result.unwrap());
    }
    for had in &unsettled {
        let attempt = attempts.get(had).copied();
        assert!(attempt.is_some_and(|attempt| attempt >= 2), "{had}: attempt {attempt:?}");
    }
}

/// Runs this program as a consumer and kills it in the middle of its work; what it had settled, and what it had not.
fn a_consumer_that_is_killed_had(
    config: &RabbitMqConfig,
    destination: &str,
    count: usize,
) -> (HashSet<String>, HashSet<String>) {
    let mut consumer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_consumer_that_is_killed", "--ignored", "--nocapture"])
        .env(CONSUMER, serde_json::to_string(&(config, destination)).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut settled, mut unsettled) = (HashSet::new(), HashSet::new());
    for line in BufReader::new(consumer.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if let Some(text) = line.strip_prefix("settled ") {
            settled.insert(text.to_owned());
        }
        unsettled.extend(line.strip_prefix("kept ").map(str::to_owned));
        if settled.len() >= count && unsettled.len() >= 10 {
            // SIGKILL. What it said until then is read yet.
            consumer.kill().unwrap();
        }
    }
    consumer.wait().unwrap();
    (settled, unsettled)
}

/// Not a test by itself: the consumer that
/// [`what_a_killed_consumer_had_comes_to_another_with_its_attempt_counted`] kills. It settles all but every fiftieth.
#[tokio::test]
#[ignore = "a part of another test, which runs it as a process"]
async fn a_consumer_that_is_killed() {
    let Ok(told) = std::env::var(CONSUMER) else { return };
    let (config, name): (RabbitMqConfig, String) = serde_json::from_str(&told).unwrap();
    let broker = connect(&config, PATIENCE).await.unwrap();
    let destination = Destination::new(name, "readers");
    let options = ConsumerOptions { max_in_flight: 100, ..ConsumerOptions::new("readers") };
    let consumer = broker.consumer(&destination, &options).await.unwrap();
    loop {
        let mut deliveries = consumer.receive(20, PATIENCE).await.unwrap();
        let kept: Vec<_> = deliveries.extract_if(.., |delivery| text(delivery).ends_with("49")).collect();
        // Said before: what was settled and not said would be missed.
        for delivery in &deliveries {
            writeln!(std::io::stdout().lock(), "settled {}", text(delivery)).unwrap();
        }
        let results = consumer.settle(acks(&deliveries)).await;
        assert!(results.iter().all(Result::is_ok));
        for delivery in &kept {
            writeln!(std::io::stdout().lock(), "kept {}", text(delivery)).unwrap();
        }
    }
}
