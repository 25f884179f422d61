//! What is published is handled at least once and in the order of its key, whatever breaks: the server, a member, the
//! network.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::config::RedisConfig;
use ductape_redis::RedisProvider;
use ductape_testkit::outage::{self, Traffic};
use ductape_testkit::servers::{self, Kind, Options, Proxy, Server};
use serde_json::json;
use std::time::Duration;

const FLIGHTS: &str = include_str!("../../ductape/examples/departures/departures.ndjson");
const PATIENCE: Duration = Duration::from_secs(10);

/// A server of the test's own, or the end of the test, said aloud.
macro_rules! server {
    ($test:literal) => {
        match servers::own(Kind::Redis, Options::default()).await {
            Ok(server) => server,
            Err(why) => return why.skip($test),
        }
    };
}

async fn traffic(config: &RedisConfig, limit: Duration, count: usize) -> Traffic {
    let client = outage::service(RedisProvider, "REDIS", json!(config), limit).await;
    Traffic::new(client, outage::departures(FLIGHTS, count))
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_departures_outlive_a_server_that_is_killed_twice_while_they_are_published() {
    let server = server!("departures outlive a server that is killed while they are published");
    let traffic = traffic(&support::config(server.endpoint()), PATIENCE, 20_000).await;
    traffic.outlives_kills_while_published(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn departures_outlive_a_server_that_is_killed_twice_while_they_are_handled() {
    let server = server!("departures outlive a server that is killed while they are handled");
    let traffic = traffic(&support::config(server.endpoint()), PATIENCE, 20_000).await;
    traffic.outlives_kills_while_handled(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn departures_outlive_a_network_that_is_cut() {
    let server = server!("departures outlive a network that is cut");
    let proxy = Proxy::start(&server.endpoint().address).unwrap();
    traffic(&through(&proxy, &server), PATIENCE, 20_000).await.outlives_cuts(&proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn departures_outlive_a_network_that_stalls_without_closing() {
    let server = server!("departures outlive a network that stalls");
    let proxy = Proxy::start(&server.endpoint().address).unwrap();
    let limit = Duration::from_secs(1);
    traffic(&through(&proxy, &server), limit, 20_000).await.outlives_stalls(&proxy, limit * 4).await;
}

fn through(proxy: &Proxy, server: &Server) -> RedisConfig {
    RedisConfig { port: Some(proxy.port()), ..support::config(server.endpoint()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_member_had_is_handled_by_another() {
    let server = server!("what a killed member had is handled by another");
    let config = support::config(server.endpoint());
    let told = serde_json::to_string(&config).unwrap();
    traffic(&config, PATIENCE, 6_000).await.outlives_a_member("a_member_that_is_killed", told).await;
}

/// Not a test by itself: the member that [`what_a_killed_member_had_is_handled_by_another`] kills.
#[tokio::test]
#[ignore = "a part of another test, which runs it as a process"]
async fn a_member_that_is_killed() {
    let Some(told) = outage::member_of() else { return };
    let config = serde_json::from_str(&told).unwrap();
    outage::be_the_member(&outage::service(RedisProvider, "REDIS", config, PATIENCE).await).await;
}
