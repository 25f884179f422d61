//! What is published is handled at least once and in the order of its key, whatever breaks: the cluster, a member, the
//! network.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::config::KafkaConfig;
use ductape_core::secret::Secret;
use ductape_core::{ConnectOptions, ConsumerOptions, Destination};
use ductape_kafka::KafkaProvider;
use ductape_testkit::outage::{self, Traffic};
use ductape_testkit::servers::{self, Kind, Options, Proxy, Server};
use serde_json::json;
use std::time::{Duration, Instant};
use support::{Auth, PARTITIONS, PATIENCE, at, connect, keyed, take};

const FLIGHTS: &str = include_str!("../../ductape/examples/departures/departures.ndjson");

/// A server of the test's own, or the end of the test, said aloud.
macro_rules! server {
    ($test:literal) => {
        server!($test, Options::default())
    };
    ($test:literal, $options:expr) => {
        match servers::own(Kind::Kafka, $options).await {
            Ok(server) => server,
            Err(why) => return why.skip($test),
        }
    };
}

/// A config whose dead members are missed soon.
fn config(server: &Server) -> KafkaConfig {
    let mut config = support::config(Auth::NONE, server.endpoint());
    config.properties.insert("session.timeout.ms".into(), Secret::from("3000"));
    config
}

async fn traffic(config: &KafkaConfig, limit: Duration, count: usize) -> Traffic {
    let client = outage::service(KafkaProvider, "KAFKA", json!(config), limit).await;
    Traffic::new(client, outage::departures(FLIGHTS, count))
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_departures_outlive_a_server_that_is_killed_twice_while_they_are_published() {
    let server = server!("departures outlive a server that is killed while they are published");
    traffic(&config(&server), PATIENCE, 20_000).await.outlives_kills_while_published(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn departures_outlive_a_server_that_is_killed_twice_while_they_are_handled() {
    let server = server!("departures outlive a server that is killed while they are handled");
    traffic(&config(&server), PATIENCE, 20_000).await.outlives_kills_while_handled(&server).await;
}

/// A server that tells its clients to come through a proxy.
async fn behind_a_proxy(test: &str) -> Option<(Server, Proxy, KafkaConfig)> {
    let proxy = Proxy::reserve().unwrap();
    let advertised = format!("PLAINTEXT://{}", proxy.address());
    let server =
        match servers::own(Kind::Kafka, Options::default().with_setting("advertised.listeners", advertised))
            .await
        {
            Ok(server) => server,
            Err(why) => {
                why.skip(test);
                return None;
            }
        };
    proxy.set_upstream(server.endpoint().address.as_str());
    let config = at(&config(&server), proxy.address());
    Some((server, proxy, config))
}

#[tokio::test(flavor = "multi_thread")]
async fn departures_outlive_a_network_that_is_cut() {
    let test = "departures outlive a network that is cut";
    let Some((_server, proxy, config)) = behind_a_proxy(test).await else { return };
    traffic(&config, PATIENCE, 20_000).await.outlives_cuts(&proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn departures_outlive_a_network_that_stalls_without_closing() {
    let test = "departures outlive a network that stalls";
    let Some((_server, proxy, config)) = behind_a_proxy(test).await else { return };
    let limit = Duration::from_secs(5);
    traffic(&config, limit, 20_000).await.outlives_stalls(&proxy, limit * 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_in_its_time_while_the_server_hangs() {
    let server = server!("closing ends in its time while the server hangs");
    let options = ConnectOptions { request_timeout: PATIENCE, ..ConnectOptions::default() };
    let broker = connect(config(&server), options).await;
    let destination = Destination::new("hangs", "readers");
    broker.ensure(&destination).await.unwrap();
    let publisher = broker.publisher(&destination).await.unwrap();
    let consumer = broker.consumer(&destination, &ConsumerOptions::new("readers")).await.unwrap();
    publisher.publish(vec![keyed("k", "held")]).await.pop().unwrap().unwrap();
    let held = consumer.receive(1, PATIENCE).await.unwrap();
    assert_eq!(held.len(), 1);
    server.stall().await.unwrap();
    let start = Instant::now();
    consumer.close().await.unwrap();
    broker.close().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    server.resume().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_closes_while_it_gives_a_share_up_leaves_and_another_goes_on_with_all() {
    let server = match servers::shared(Kind::Kafka).await {
        Ok(server) => server,
        Err(why) => return why.skip("a member that closes while it gives a share up leaves"),
    };
    let broker = connect(config(&server), ConnectOptions::default()).await;
    let destination = Destination::new(format!("leaves-{:016x}", fastrand::u64(..)), "readers");
    broker.ensure(&destination).await.unwrap();
    let publisher = broker.publisher(&destination).await.unwrap();
    let round: usize = PARTITIONS.try_into().unwrap();
    let open = async || broker.consumer(&destination, &ConsumerOptions::new("readers")).await.unwrap();
    let (leaver, mut published, mut held) = (open().await, 0, 0);
    let publish_round = async || {
        let messages = (0..round).map(|_| support::message("x")).collect();
        publisher.publish(messages).await.into_iter().for_each(|taken| drop(taken.unwrap()));
    };
    publish_round().await;
    published += round;
    held += take(&leaver, round).await.len();
    let stayer = open().await;
    // Once the other is there, a part of what is published comes to nobody: it waits until what is in hand of that
    // part is settled, which it never is.
    let deadline = Instant::now() + PATIENCE;
    while held == published {
        assert!(Instant::now() < deadline, "no share is taken away");
        publish_round().await;
        published += round;
        while held < published {
            match leaver.receive(published - held, Duration::from_millis(500)).await.unwrap().len() {
                0 => break,
                more => held += more,
            }
        }
    }
    let start = Instant::now();
    leaver.close().await.unwrap();
    take(&stayer, published).await;
    // The group does not wait for the time that is left to settle what was in hand, and not for a session to end.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    broker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_member_had_is_handled_by_another() {
    let server = server!("what a killed member had is handled by another");
    let config = config(&server);
    let told = serde_json::to_string(&config).unwrap();
    traffic(&config, PATIENCE, 6_000).await.outlives_a_member("a_member_that_is_killed", told).await;
}

/// Not a test by itself: the member that [`what_a_killed_member_had_is_handled_by_another`] kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of another test, which runs it as a process"]
async fn a_member_that_is_killed() {
    let Some(told) = outage::member_of() else { return };
    let config = serde_json::from_str(&told).unwrap();
    outage::be_the_member(&outage::service(KafkaProvider, "KAFKA", config, PATIENCE).await).await;
}
