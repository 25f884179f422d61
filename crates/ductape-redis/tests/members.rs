//! Members of a group on a real server: who may settle, what comes back to whom, and what is recovered.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use ductape_core::config::ProviderConfig;
use ductape_core::{ConnectOptions, ConsumerOptions, Destination, ErrorKind, Provider, Verdict};
use ductape_redis::RedisProvider;
use std::time::{Duration, Instant};
use support::rig::{LEASE, PATIENCE, QUIET, Rig, options, ordered, publish, settle, take, texts};

#[tokio::test(flavor = "multi_thread")]
async fn an_elected_member_that_stood_still_settles_nothing_and_gets_nothing_more() {
    let Some(rig) = Rig::start("an elected member that stood still settles nothing").await else { return };
    let (one, other, stream) = (rig.connect().await, rig.connect().await, ordered("s"));
    one.ensure(&stream).await.unwrap();
    publish(&one, &stream, &["a", "b", "c"]).await;
    let first = one.consumer(&stream, &options()).await.unwrap();
    let held = take(&first, 2).await;
    // It renews nothing from here on, as a process that hangs.
    let second = other.consumer(&stream, &options()).await.unwrap();
    let start = Instant::now();
    let taken = take(&second, 3).await;
    let took = start.elapsed();
    assert_eq!(texts(&taken), ["a", "b", "c"]);
    assert!(taken[0].attempt >= 2, "it had been handed out before");
    assert!(took < LEASE * 5, "failover after {took:?}");
    let lost = vec![Some(ErrorKind::LeaseLost); 2];
    assert_eq!(settle(&first, &held, Verdict::Ack).await, lost);
    assert!(first.receive(10, QUIET).await.unwrap().is_empty());
    assert_eq!(settle(&second, &taken, Verdict::Ack).await, vec![None; 3]);
    let pending: Vec<redis::Value> = rig.ask(&["XPENDING", "s", "g", "-", "+", "10"]).await;
    assert!(pending.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_elected_member_is_followed_at_once() {
    let Some(rig) = Rig::start("a closed elected member is followed at once").await else { return };
    let (broker, stream) = (rig.connect().await, ordered("s"));
    broker.ensure(&stream).await.unwrap();
    let long = ConsumerOptions { lease: Duration::from_secs(300), ..options() };
    let first = broker.consumer(&stream, &long).await.unwrap();
    publish(&broker, &stream, &["a", "b"]).await;
    take(&first, 1).await;
    let second =
        broker.consumer(&stream, &ConsumerOptions { member: "second".into(), ..long }).await.unwrap();
    assert!(second.receive(10, QUIET).await.unwrap().is_empty());
    first.close().await.unwrap();
    assert_eq!(texts(&take(&second, 2).await), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_server_gets_its_groups_again_and_loses_nothing_that_came_since() {
    let Some(rig) = Rig::start("a flushed server gets its groups again").await else { return };
    let (broker, plain, strict) = (rig.connect().await, Destination::new("p", "g"), ordered("o"));
    for stream in [&plain, &strict] {
        broker.ensure(stream).await.unwrap();
        let consumer = broker.consumer(stream, &options()).await.unwrap();
        publish(&broker, stream, &["old"]).await;
        let old = take(&consumer, 1).await;
        rig.ask::<()>(&["FLUSHALL"]).await;
        publish(&broker, stream, &["new-1", "new-2"]).await;
        assert_eq!(texts(&take(&consumer, 2).await), ["new-1", "new-2"]);
        let late = settle(&consumer, &old, Verdict::Retry(Duration::ZERO)).await;
        assert!(late[0].is_none_or(|kind| kind == ErrorKind::LeaseLost), "{late:?}");
        consumer.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_same_name_gets_first_what_it_had_when_it_died() {
    let Some(rig) = Rig::start("a member of the same name gets first what it had").await else { return };
    let (broker, stream) = (rig.connect().await, Destination::new("s", "g"));
    broker.ensure(&stream).await.unwrap();
    publish(&broker, &stream, &["a", "b"]).await;
    // As a process leaves it that was killed with a delivery in hand, long before its lease is over.
    let read = ["XREADGROUP", "GROUP", "g", "again@300000ms", "COUNT", "1", "STREAMS", "s", ">"];
    rig.ask::<redis::Value>(&read).await;
    let long = Duration::from_secs(300);
    let options = ConsumerOptions { member: "again".into(), lease: long, ..options() };
    let consumer = broker.consumer(&stream, &options).await.unwrap();
    let taken = take(&consumer, 2).await;
    assert_eq!(texts(&taken), ["a", "b"]);
    assert_eq!([taken[0].attempt, taken[1].attempt], [2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_to_whom_nobody_answers_is_lost_in_time_and_another_is_opened() {
    let Some(rig) = Rig::start("a consumer to whom nobody answers is lost in time").await else { return };
    let soon = ConnectOptions { request_timeout: Duration::from_millis(500), ..ConnectOptions::default() };
    let config = ProviderConfig::Redis(rig.config.clone());
    let broker = RedisProvider.connect(&config, &soon).await.unwrap();
    for stream in [Destination::new("p", "g"), ordered("o")] {
        broker.ensure(&stream).await.unwrap();
        let consumer = broker.consumer(&stream, &options()).await.unwrap();
        publish(&broker, &stream, &["a"]).await;
        take(&consumer, 1).await;
        rig.server.stall().await.unwrap();
        let lost = consumer.receive(1, PATIENCE).await.unwrap_err();
        rig.server.resume().await.unwrap();
        assert_eq!(lost.kind(), ErrorKind::ConnectionLost, "{lost}");
        consumer.close().await.unwrap();
        let consumer = broker.consumer(&stream, &options()).await.unwrap();
        assert_eq!(texts(&take(&consumer, 1).await), ["a"]);
        consumer.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_consumer_had_comes_back_once_the_server_does() {
    let Some(rig) = Rig::start("what a lost consumer had comes back once the server does").await else {
        return;
    };
    let (broker, stream) = (rig.connect().await, Destination::new("s", "g"));
    broker.ensure(&stream).await.unwrap();
    let long = ConsumerOptions { lease: Duration::from_secs(300), ..options() };
    let consumer = broker.consumer(&stream, &long).await.unwrap();
    publish(&broker, &stream, &["a"]).await;
    take(&consumer, 1).await;
    rig.server.kill().await.unwrap();
    let lost = consumer.receive(1, PATIENCE).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::ConnectionLost, "{lost}");
    consumer.close().await.unwrap();
    rig.server.restart().await.unwrap();
    let again = ConsumerOptions { member: "another".into(), ..long };
    let start = Instant::now();
    let consumer = loop {
        match broker.consumer(&stream, &again).await {
            Ok(consumer) => break consumer,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        tokio::task::yield_now().await;
    };
    let back = take(&consumer, 1).await;
    assert_eq!((texts(&back), back[0].attempt), (vec!["a".to_owned()], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_keeps_about_as_much_as_it_is_told() {
    let Some(mut rig) = Rig::start("a stream keeps about as much as it is told").await else { return };
    rig.config.max_len = Some(500);
    let (broker, stream) = (rig.connect().await, Destination::new("s", "g"));
    broker.ensure(&stream).await.unwrap();
    for _ in 0..20 {
        publish(&broker, &stream, &["x"; 100]).await;
    }
    let kept: usize = rig.ask(&["XLEN", "s"]).await;
    assert!((500..1000).contains(&kept), "{kept} kept of 2000");
    let seen = broker.inspect(&stream).await.unwrap();
    assert_eq!(seen.messages, Some(kept as u64));
}
