//! What is kept after it is settled, how much of it, and who gets it.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod support;

use ductape_core::broker::Start;
use ductape_core::config::SqliteConfig;
use ductape_core::{Broker, ConsumerOptions, ErrorKind, Message, Verdict};
use std::sync::Arc;
use std::time::Duration;
use support::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A topic on a connection with this config.
async fn topic_with(file: &File, config: SqliteConfig) -> Topic {
    let broker = file.connect_with(config).await.unwrap();
    broker.ensure(&orders()).await.unwrap();
    let publisher = broker.publisher(&orders()).await.unwrap();
    let consumer = member(&*broker).await;
    Topic { broker, publisher, consumer }
}

async fn kept(broker: &Arc<dyn Broker>) -> (Option<u64>, Option<u64>) {
    let inspection = broker.inspect(&orders()).await.unwrap();
    (inspection.messages, inspection.bytes)
}

/// Publishes a message that says to be of a time so much after now, and settles it.
async fn settled(file: &File, topic: &Topic, text: &str, ahead: Duration) {
    let message = Message { time: file.clock.now().saturating_add(ahead), ..plain(text.as_bytes()) };
    topic.publisher.publish(vec![message]).await.remove(0).unwrap();
    let came = topic.take().await;
    assert_eq!(texts(&came), [text]);
    ack(&*topic.consumer, &came).await;
}

#[tokio::test]
async fn a_batch_takes_no_more_than_the_most_though_what_is_retained_gives_way_to_it() {
    let file = File::new();
    let config = SqliteConfig { max_bytes: Some(1000), retain: Some("7d".into()), ..file.config() };
    let topic = topic_with(&file, config).await;
    for n in 0..5 {
        settled(&file, &topic, &format!("{n:0>100}"), Duration::ZERO).await;
    }
    assert_eq!(kept(&topic.broker).await, (Some(5), Some(500)));
    let results = topic.publisher.publish(vec![plain(&[b'x'; 100]); 20]).await;
    let (taken, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((taken.len(), refused.len()), (10, 10));
    assert!(refused.iter().all(|r| r.as_ref().unwrap_err().kind() == ErrorKind::DestinationFull));
    assert_eq!(kept(&topic.broker).await, (Some(10), Some(1000)));
}

#[tokio::test]
async fn a_message_timed_in_the_future_is_kept_no_longer_than_what_came_after_it() {
    let file = File::new();
    let topic = topic_with(&file, SqliteConfig { retain: Some("1m".into()), ..file.config() }).await;
    let year = MINUTE * 60 * 24 * 365;
    settled(&file, &topic, "a year ahead", year).await;
    settled(&file, &topic, "on time", Duration::ZERO).await;
    file.clock.advance(MINUTE);
    assert_eq!(kept(&topic.broker).await.0, Some(2));
    settled(&file, &topic, "a minute later", Duration::ZERO).await;
    assert_eq!(kept(&topic.broker).await.0, Some(1));
    settled(&file, &topic, "a year ahead, nothing old after it", year).await;
    file.clock.advance(MINUTE);
    settled(&file, &topic, "two minutes later", Duration::ZERO).await;
    assert_eq!(kept(&topic.broker).await.0, Some(2));
}

#[tokio::test]
async fn a_group_from_the_earliest_gets_also_what_waits_for_another_alone() {
    let file = File::new();
    let topic = file.topic().await;
    topic.publish(&["k:1", "b"]).await;
    let came = topic.take().await;
    settle(&*topic.consumer, &came[..1], Verdict::Retry(MINUTE)).await;
    ack(&*topic.consumer, &came[1..]).await;
    assert_eq!(kept(&topic.broker).await.0, Some(1), "the log has passed it");
    let earliest = ConsumerOptions { start: Start::Earliest, ..ConsumerOptions::new("audit") };
    let audit = topic.broker.consumer(&orders(), &earliest).await.unwrap();
    topic.publish(&["k:2"]).await;
    let replayed = take(&*audit).await;
    assert_eq!((texts(&replayed), attempts(&replayed)), (vec!["k:1".into(), "k:2".into()], vec![1, 1]));
    ack(&*audit, &replayed).await;
    file.clock.advance(MINUTE);
    topic.consumer.extend().await.unwrap();
    let came = topic.take().await;
    assert_eq!(texts(&came), ["k:1", "k:2"], "the other group loses nothing");
    ack(&*topic.consumer, &came).await;
    assert_eq!(kept(&topic.broker).await.0, Some(0));
}

#[tokio::test]
async fn a_consumer_without_a_bound_receives() {
    let file = File::new();
    let topic = file.topic().await;
    topic.consumer.close().await.unwrap();
    let options = ConsumerOptions { max_in_flight: usize::MAX, ..options() };
    let consumer = topic.broker.consumer(&orders(), &options).await.unwrap();
    topic.publish(&["k:1", "k:2"]).await;
    let came = consumer.receive(usize::MAX, SOON).await.unwrap();
    settle(&*consumer, &came, Verdict::Retry(Duration::ZERO)).await;
    let back = consumer.receive(usize::MAX, SOON).await.unwrap();
    assert_eq!((texts(&back), attempts(&back)), (vec!["k:1".into(), "k:2".into()], vec![2, 2]));
}
